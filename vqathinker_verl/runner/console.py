"""Draw a run's screen in a thread that only reads the run's files, so it can neither delay the run nor end it."""

import os
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from rich.console import Console as RichConsole
from rich.console import Group
from rich.live import Live
from rich.text import Text

from vqathinker_verl.runner import plain
from vqathinker_verl.runner.events import Ended, Event, RunReader
from vqathinker_verl.runner.facts import shown_path
from vqathinker_verl.runner.screen import Screen

LOOK_SECONDS = 0.5


class RunConsole(threading.Thread):
    """Shows a run until it ends or `close` is called.

    On a terminal that is a history of lines with a pinned part below; elsewhere one line per event. A terminal that
    takes no more output blocks this thread alone.

    Args:
        output_dir: OUTPUT_DIR of the run.
        first: number of the start to begin with.
        stream: where to draw; None: follow the run without drawing.
        failed: is called with the reason if an error stopped the drawing.
        watched: whether the run was started by another process.
        on_event: is called with every event.
    """

    def __init__(
        self,
        output_dir: Path,
        first: int,
        stream: IO[str] | None,
        failed: Callable[[str], None],
        *,
        watched: bool = False,
        on_event: Callable[[Event], None] = lambda event: None,
    ) -> None:
        super().__init__(name="vqathinker-console", daemon=True)
        self.status: str | None = None  # what the launcher does instead of training
        self.ended = threading.Event()
        self._closing = threading.Event()
        self._failed, self._on_event, self._stream = failed, on_event, stream
        self._folder = shown_path(output_dir)
        self._reader = RunReader(output_dir, first)
        if stream is not None and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a model may write what the terminal cannot show
        self._rich = rich_console(stream)
        ascii_only = not (self._rich.encoding or "").lower().startswith("utf")
        self._screen = Screen(self._folder, self._reader.state, ascii_only=ascii_only, watched=watched)
        self._watched = watched

    def run(self) -> None:
        """Draw; after an error, which is reported, the run is followed without drawing."""
        for work in (self._draw, self._follow):
            try:
                work()
            except OSError:  # whoever looked at it is gone
                give_up(self._rich.file)
            except Exception:
                self._failed(traceback.format_exc())

    def _draw(self) -> None:
        if self._stream is None:
            return
        if self._rich.is_terminal and not self._rich.is_dumb_terminal:
            self._draw_live()
        else:
            self._draw_lines()

    def _follow(self) -> None:
        for _ in self._polls():
            pass

    def close(self, seconds: float = 5.0) -> None:
        """Draw what is still to be drawn, and stop; a terminal that takes nothing is waited for no longer than this."""
        self._closing.set()
        self.join(seconds)

    def _draw_live(self) -> None:
        with Live(
            console=self._rich, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
        ) as live:
            for events in self._polls():
                width = self._rich.width
                if lines := [line for event in events for line in self._screen.lines(event, width)]:
                    self._rich.print(Group(*lines))
                live.update(Group(*self._screen.pinned(width, self.status)), refresh=True)
            live.update(Text(), refresh=True)

    def _draw_lines(self) -> None:
        first = True
        for events in self._polls():
            for event in events:
                for line in plain.lines(event, self._reader.state, self._folder, now=not (first and self._watched)):
                    self._rich.file.write(line + "\n")
            self._rich.file.flush()
            first = False

    def _polls(self) -> Iterator[list[Event]]:
        """The events of each look, until the run has ended or the console is to close; then of a last one."""
        while not self.ended.is_set():
            closing = self._closing.is_set()
            events = self._reader.poll()
            for event in events:
                self._on_event(event)
            if any(self._is_last(event) for event in events):
                self.ended.set()
            yield events
            if closing:
                return
            self._closing.wait(LOOK_SECONDS)

    def _is_last(self, event: Event) -> bool:
        return isinstance(event, Ended) and event.start is self._reader.state.record.starts[-1]


def rich_console(stream: IO[str] | None) -> RichConsole:
    """Rich's console on a stream; FORCE_COLOR, which CI sets, does not make a terminal of a file here."""
    terminal = stream is not None and stream.isatty()
    return RichConsole(file=stream, force_terminal=terminal, highlight=False, markup=False, emoji=False)


def give_up(stream: IO[str]) -> None:
    """Lead a closed stream to nowhere, or Python would fail once more when it flushes it at the end."""
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError):
        return
    os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
