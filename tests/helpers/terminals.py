"""Programs on a pseudo-terminal of a given size."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
import threading
from collections.abc import Sequence

ESCAPE = re.compile(r"\x1b(?:\[[0-9;?]*[A-Za-z]|[=>78])")


def set_size(descriptor: int, columns: int, rows: int = 40) -> None:
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


class Terminal:
    """A process whose stdout is a pseudo-terminal; what it writes is collected until it ends."""

    def __init__(
        self, command: Sequence[str], columns: int, environment: dict | None = None, read: bool = True
    ) -> None:
        self.master, slave = pty.openpty()
        set_size(self.master, columns)
        kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR", "CI")}
        environment = {**kept, "TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8", **(environment or {})}
        self.process = subprocess.Popen(command, stdout=slave, stderr=subprocess.PIPE, env=environment, text=True)
        os.close(slave)
        self._chunks: list[bytes] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        if read:
            self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                chunk = os.read(self.master, 65536)
            except OSError:  # the other end is closed
                return
            if not chunk:
                return
            self._chunks.append(chunk)

    @property
    def raw(self) -> str:
        return b"".join(self._chunks).decode("utf-8", errors="replace")

    def wait(self, seconds: float = 60) -> tuple[int, str]:
        """Exit code and stderr."""
        _, errors = self.process.communicate(timeout=seconds)
        if self._reader.is_alive():
            self._reader.join(10)
        return self.process.returncode, errors

    @property
    def lines(self) -> list[str]:
        """Every line that was drawn, also those that were drawn again."""
        return [line.rstrip() for line in re.split(r"[\r\n]+", ESCAPE.sub("", self.raw))]
