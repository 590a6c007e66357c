"""Check whether a file can be written, and write each file completely or not at all."""

import json
import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any


def check_writable(path: Path) -> None:
    """Raise before the work that ends in `path` if no file can be made there; its folder is made.

    Raises:
        OSError: With `path` as its file name and the reason.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise OSError(error.errno, f"cannot be written ({error.strerror})", str(path)) from error


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a file in the folder of `path`, then move it to `path`; readers never see an incomplete file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        write(partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write bytes, complete or not at all."""
    write_atomically(path, lambda partial: _write(partial, data))


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, complete or not at all; line ends stay as they are."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON, complete or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_jsonl(path: Path, rows: Iterable[Any]) -> None:
    """Write one line of JSON per row, complete or not at all."""
    write_text(path, "".join(json_line(row) for row in rows))


def json_line(row: Any) -> str:
    """One row of a JSONL file, with its line end."""
    return json.dumps(row, ensure_ascii=False) + "\n"


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)
