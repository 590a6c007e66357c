"""A run's output, copied to its log and if wanted to the terminal, and read by whoever wants to know what it says."""

import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from vqathinker_verl.runner.console import give_up


class LogTee(threading.Thread):
    """Copies a stream to a log file.

    Args:
        source: the stream.
        log_path: the file; it is appended to.
        readers: each is called with every line; one that fails is not called again, and the log says why.
        echo: copy to stdout too.
        told: is called, once, with a message if the log cannot be written.
    """

    def __init__(
        self,
        source: IO[bytes],
        log_path: Path,
        readers: Sequence[Callable[[str], None]],
        *,
        echo: bool,
        told: Callable[[str], None],
    ) -> None:
        super().__init__(name="vqathinker-output", daemon=True)
        self._source, self._log_path, self._readers = source, log_path, list(readers)
        self._echo, self._told, self._failed = echo, told, False
        self.start()

    def run(self) -> None:
        """Copy until the stream ends, whatever becomes of the copies: who writes into a full pipe waits for ever."""
        with self._log_path.open("ab", buffering=0) as log:
            for line in self._source:
                if self._echo:
                    self._print(line)
                self._write(log, line)
                text = line.decode("utf-8", errors="replace")
                for reader in tuple(self._readers):
                    try:
                        reader(text)
                    except Exception:
                        self._readers.remove(reader)
                        self._write(log, f"vqathinker: {traceback.format_exc()}".encode())

    def _print(self, line: bytes) -> None:
        try:
            sys.stdout.buffer.write(line)
            sys.stdout.buffer.flush()
        except OSError:  # whoever read it is gone
            give_up(sys.stdout)

    def _write(self, log: IO[bytes], line: bytes) -> None:
        try:
            log.write(line)
        except OSError as error:
            if not self._failed:
                self._told(f"{self._log_path} is not complete: {error}")
            self._failed = True
