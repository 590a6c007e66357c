"""Read MATLAB files in a separate process: a damaged file can crash the process that reads it (scipy's loadmat)."""

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vqathinker_verl.data.records import LabelError

SECONDS = 120.0
MEMORY_BYTES = 4 * 2**30  # of address space, libraries included


def read_columns(path: Path, wanted: Sequence[str] = ()) -> dict[str, list[str]]:
    """Variables of a MATLAB file as text columns; fields of a struct are called STRUCT.FIELD.

    Args:
        path: The file.
        wanted: Columns to read, if they are all there. None, or some missing: all that have equally many entries,
            those with the most entries.

    Raises:
        LabelError: The file cannot be read.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-m", "vqathinker_verl.data.matlab", os.path.abspath(path), *wanted],
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


def main(path: str, wanted: Sequence[str]) -> None:
    """The process of its own: print the columns as JSON."""
    from scipy.io import loadmat

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, most))
    variables = {
        name: entries
        for key, value in loadmat(path).items()
        if not key.startswith("__")
        for name, entries in _variables(key, value)
    }
    # A field may be asked for without its struct's name, as long as one struct has it.
    chosen = {name: _named(variables, name) for name in wanted}
    if wanted and all(value is not None for value in chosen.values()):
        sizes = {name: len(value or ()) for name, value in chosen.items()}
        if len(set(sizes.values())) > 1:
            sys.exit(f"its columns differ in length: {sizes}; choose --video-column and --mos-column that go together")
        columns = {name: value for name, value in chosen.items() if value is not None}
    else:
        longest = max(map(len, variables.values()), default=0)
        columns = {name: value for name, value in variables.items() if wanted or len(value) == longest}
        columns = {name: [*value, *[""] * (longest - len(value))] for name, value in columns.items()}
    sys.stdout.write(json.dumps(columns))


def _named(variables: dict[str, list[str]], name: str) -> list[str] | None:
    found = [value for key, value in variables.items() if key == name] or [
        value for key, value in variables.items() if key.rpartition(".")[2] == name
    ]
    return found[0] if len(found) == 1 else None


def _variables(name: str, value: Any) -> Iterator[tuple[str, list[str]]]:
    """A variable, or each field of a struct: one struct of arrays, or an array of structs."""
    fields = getattr(getattr(value, "dtype", None), "names", None)
    if not fields:
        yield name, _entries(value)
        return
    for field in fields:
        inner = value[field]
        yield from _variables(f"{name}.{field}", inner.ravel()[0] if inner.size == 1 else inner)


def _entries(value: Any) -> list[str]:
    """A MATLAB vector or cell array as text; loadmat wraps each cell in an array of its own."""
    entries = []
    if not hasattr(value, "ravel"):
        return [str(value).strip()]
    for cell in value.ravel():
        while hasattr(cell, "ravel") and getattr(cell, "size", 0) == 1 and getattr(cell, "ndim", 0):
            cell = cell.ravel()[0]
        entries.append(str(cell).strip())
    return entries


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
