"""MATLAB files, read in a process of their own: a damaged one can crash the process that reads it (scipy's loadmat)."""

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from vqathinker_verl.data.records import LabelError

SECONDS = 120.0
MEMORY_BYTES = 4 * 2**30  # of address space, libraries included


def read_columns(path: Path) -> dict[str, list[str]]:
    """The variables of a MATLAB file that have equally many entries, as text; those with the most entries.

    Raises:
        LabelError: The file cannot be read.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-m", "vqathinker_verl.data.matlab", os.path.abspath(path)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=SECONDS,
            check=False,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path)), "OMP_NUM_THREADS": "1"},
        )
    except subprocess.TimeoutExpired:
        raise LabelError(f"{path}: reading it took longer than {SECONDS:g} s; save its labels as CSV") from None
    if done.returncode < 0:
        reason = f"it killed the reading process, {signal.Signals(-done.returncode).name}"
    elif done.returncode > 0:
        reason = (done.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    else:
        columns: dict[str, list[str]] = json.loads(done.stdout)
        return columns
    raise LabelError(f"{path}: cannot be read as a MATLAB file ({reason}); save its labels as CSV")


def main(path: str) -> None:
    """The process of its own: print the columns as JSON."""
    from scipy.io import loadmat

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, most))
    variables = {name: value for name, value in loadmat(path).items() if not name.startswith("__")}
    longest = max((value.size for value in variables.values()), default=0)
    columns = {name: _entries(value) for name, value in variables.items() if value.size == longest}
    sys.stdout.write(json.dumps(columns))


def _entries(value: Any) -> list[str]:
    """A MATLAB vector or cell array as text; loadmat wraps each cell in an array of its own."""
    entries = []
    for cell in value.ravel():
        while hasattr(cell, "ravel") and getattr(cell, "size", 0) == 1 and getattr(cell, "ndim", 0):
            cell = cell.ravel()[0]
        entries.append(str(cell).strip())
    return entries


if __name__ == "__main__":
    main(sys.argv[1])
