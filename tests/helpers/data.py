"""Reference files that the tests compare with: tests/data."""

from pathlib import Path

DATA = Path(__file__).resolve().parents[1] / "data"


def data_file(relative: str) -> Path:
    """Path of a reference file; its absence is a failure, never a skip."""
    path = DATA / relative
    assert path.exists(), f"tests/data/{relative} is missing"
    return path
