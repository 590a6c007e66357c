"""Ends the process when one phase of the run takes longer than it may.

A failure inside verl's weight sync leaves trainer and server waiting for each other without a timeout: no exception
comes out, in any process. So the trainer says which phase it enters, and a thread watches the clock. Ending the
trainer's process ends the run: verl's driver sees the actor die, and the launcher (launch.py) clears up.
"""

import faulthandler
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

logger = logging.getLogger(__name__)
EXIT_CODE = 70


class Watchdog:
    """Limits the time between two signs of progress.

    Args:
        seconds: how long any phase may last, unless it names its own limit.
        start_seconds: how long it may take to the first phase: models are read from a disk, servers start.
        on_expiry: called with the message; replaced in tests. The default ends this process with code 70.
    """

    def __init__(self, seconds: float, *, start_seconds: float, on_expiry: Callable[[str], None] | None = None) -> None:
        self._seconds = seconds
        self._on_expiry = on_expiry or _end_process
        self._lock = threading.Lock()
        self._phase, self._limit, self._since = "start", start_seconds, time.monotonic()
        self._stopped = threading.Event()
        threading.Thread(target=self._watch, name="vqathinker-watchdog", daemon=True).start()

    def enter(self, phase: str, seconds: float | None = None) -> None:
        """A new phase begins: the clock starts again, with `seconds` as its limit."""
        with self._lock:
            self._phase, self._limit, self._since = phase, seconds or self._seconds, time.monotonic()

    @contextmanager
    def phase(self, name: str, seconds: float) -> Iterator[None]:
        """A phase with an end, after which the general limit holds again."""
        self.enter(name, seconds)
        yield
        self.enter(f"after {name}")

    def stop(self) -> None:
        """Nothing is watched any more."""
        self._stopped.set()

    def expire(self, message: str) -> None:
        """End the process now, for a reason that the caller has found."""
        self._stopped.set()
        self._on_expiry(message)

    def _watch(self) -> None:
        while not self._stopped.wait(0.5):
            with self._lock:
                phase, limit, elapsed = self._phase, self._limit, time.monotonic() - self._since
            if elapsed > limit:
                self.expire(
                    f"watchdog: no progress in phase '{phase}' for {elapsed:.0f} s (limit {limit:.0f} s); stopping the "
                    "run. Raise vqathinker.watchdog.* if this phase is only slow."
                )


def _end_process(message: str) -> None:
    logger.error(message)
    print(message, file=sys.stderr, flush=True)  # noqa: T201 (the last words must not depend on logging)
    faulthandler.dump_traceback(file=sys.stderr)
    sys.stderr.flush()
    os._exit(EXIT_CODE)
