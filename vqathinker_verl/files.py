"""Files that a command will write."""

import tempfile
from pathlib import Path


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
