"""Python packages that only some tests need, installed into folders of their own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vqathinker-verl"


def installed(package: str, version: str) -> Path:
    """The folder of a package without its dependencies; installed first where it is missing, for which PyPI has to be
    reachable. Kept in ~/.cache/vqathinker-verl (or under XDG_CACHE_HOME)."""
    folder = CACHE / f"{package}-{version}"
    if not folder.is_dir():
        # Installed beside it and then renamed: an installation that was interrupted is not taken for a complete one.
        partial = CACHE / f"{package}-{version}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        uv = shutil.which("uv") or shutil.which(ROOT / ".venv-uv" / "bin" / "uv")
        pip = [uv, "pip", "install", "--python", sys.executable] if uv else [sys.executable, "-m", "pip", "install"]
        done = subprocess.run(
            [*pip, "--quiet", "--no-deps", "--target", partial, f"{package}=={version}"], capture_output=True, text=True
        )
        # No skip: this test asks for PyPI, or for a cache folder that an earlier run has filled.
        assert done.returncode == 0, f"{package} {version} could not be installed from PyPI:\n{done.stderr}"
        partial.rename(folder)
    return folder
