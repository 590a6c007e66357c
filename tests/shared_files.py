"""The one door to ../shared: reference files that lie beside a checkout and not in it."""

import os
from pathlib import Path

import pytest

SHARED = Path(os.environ.get("VQATHINKER_SHARED", Path(__file__).resolve().parents[2] / "shared"))


def shared_file(relative: str) -> Path:
    """Path of a shared reference file; skips the calling test, with the reason, where the folder is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"reference files are not beside this checkout (looked for {SHARED.name}/ next to it)")
    path = SHARED / relative
    assert path.exists(), f"{relative} is missing from the reference files"
    return path
