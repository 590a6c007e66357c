"""How far a long command is, how fast, and how long it will take: a bar on a terminal, plain lines in a log."""

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import IO

# Between two lines of a log.
LOG_SECONDS = 30.0
# Below this number the rate is not reported at the end: it says little.
FEW = 8


class Progress:
    """Counts what is done; a context manager.

    The rate is the mean since the start, because answers come in batches. What an earlier start did is no part of it.

    Args:
        total: How many there are in all.
        done: How many an earlier start did.
        unit: What one is called.
        desc: What stands before the bar.
        file: Where it is shown; None: the standard error.
        clock: Seconds since some moment.
    """

    def __init__(
        self,
        total: int,
        *,
        done: int = 0,
        unit: str = "video",
        desc: str | None = None,
        file: IO[str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        from tqdm import tqdm

        self.total, self.earlier, self.done = total, done, done
        self.unit, self.desc = unit, desc
        self.file = file if file is not None else sys.stderr
        self.clock = clock
        self.begin = self.told = clock()
        on_terminal = self.file.isatty()
        self.bar = tqdm(
            total=total, initial=done, unit=unit, desc=desc, file=self.file, smoothing=0, leave=False,
            disable=not on_terminal,
        )  # fmt: skip

    @property
    def rate(self) -> float:
        """How many a second; NaN at the start."""
        seconds = self.clock() - self.begin
        return (self.done - self.earlier) / seconds if seconds > 0 else float("nan")

    def update(self) -> None:
        """Count one."""
        self.done += 1
        self.bar.update()
        if self.bar.disable and self.clock() - self.told >= LOG_SECONDS and self.done < self.total:
            self.told = self.clock()
            left = self.bar.format_interval((self.total - self.done) / self.rate)
            self._write(f"{self.done} of {self.total} {self.unit}s, {self._rate}, {left} left")

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.bar.close()
        if error is None and self.done - self.earlier >= FEW:
            taken = self.bar.format_interval(self.clock() - self.begin)
            self._write(f"{self.done - self.earlier} {self.unit}s in {taken}, {self._rate}")

    @property
    def _rate(self) -> str:
        return f"{self.rate:.3g} {self.unit}s/s"

    def _write(self, text: str) -> None:
        self.file.write(f"vqathinker: {f'{self.desc}: ' if self.desc else ''}{text}\n")
        self.file.flush()
