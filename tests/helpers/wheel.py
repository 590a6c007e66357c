"""The package as its wheel installs it, without the repository."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("pyproject.toml", "README.md", "LICENSE")


def install_wheel(folder: Path, target: Path) -> Path:
    """Build the wheel from a copy of the sources in `folder`, and unpack it into `target`, which is returned."""
    source = folder / "source"
    shutil.copytree(ROOT / "vqathinker_verl", source / "vqathinker_verl", ignore=shutil.ignore_patterns("__pycache__"))
    for name in SOURCES:
        shutil.copy(ROOT / name, source)
    script = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"
    command = [sys.executable, "-c", script, str(folder)]
    built = subprocess.run(command, cwd=source, capture_output=True, text=True, timeout=300)
    assert built.returncode == 0, built.stderr
    with zipfile.ZipFile(folder / built.stdout.split()[-1]) as wheel:
        wheel.extractall(target)
    return target
