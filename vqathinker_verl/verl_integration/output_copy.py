"""A run's output, copied to the terminal and to its log, and read for why the run failed."""

import os
import re
import sys
import threading
import time
from pathlib import Path
from typing import IO

# The watchdog's words, an exception's last line, and what Ray's C++ side says before it ends the process.
REASON = re.compile(r"(watchdog: .*|Failed to connect to GCS .*|\b\w*(?:Error|Exception): .*)")
DEAD_ACTOR = re.compile(r"\tclass_name: (?:.*\.)?(\w+)")  # a line of what Ray says of an actor that died


class OutputCopy(threading.Thread):
    """Copies a stream to stdout and to a log file; `reason` is the last line that reads like a failure's."""

    def __init__(self, source: IO[bytes], log_path: Path) -> None:
        super().__init__(name="vqathinker-output", daemon=True)
        self.reason: str | None = None
        self._deaths: dict[str, float] = {}  # class of a Ray actor -> when the stream last told of its death
        self._source = source
        self._log_path = log_path
        self.start()

    def run(self) -> None:
        """Copy until the stream ends, whatever becomes of the copies: who writes into a full pipe waits for ever."""
        failed = False
        with self._log_path.open("ab", buffering=0) as log:
            for line in self._source:
                try:
                    sys.stdout.buffer.write(line)
                    sys.stdout.buffer.flush()
                except OSError:  # whoever read it is gone
                    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                try:
                    log.write(line)
                except OSError as error:
                    if not failed:
                        print(f"vqathinker: {self._log_path} is not whole: {error}", file=sys.stderr)
                    failed = True
                if (self.reason or "").startswith("watchdog"):
                    continue  # what fails and dies from here on is its doing
                text = line.decode("utf-8", errors="replace")
                if found := REASON.search(text):
                    self.reason = found.group(1)
                if found := DEAD_ACTOR.search(text):
                    self._deaths[found.group(1)] = time.monotonic()

    def dead_actors(self, since: float) -> list[str]:
        """Classes of the Ray actors whose death was told since then, a moment of `time.monotonic`."""
        return [name for name, told in self._deaths.items() if told >= since]
