"""What the launcher shows and records of one start of a run."""

import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from vqathinker_verl.runner import ending
from vqathinker_verl.runner.console import RunConsole, give_up
from vqathinker_verl.runner.events import Event, Validated
from vqathinker_verl.runner.failure import FailureReader
from vqathinker_verl.runner.metrics_log import merge_metrics, read_metrics, series
from vqathinker_verl.runner.plot import Plotter
from vqathinker_verl.runner.record import Start, read_record
from vqathinker_verl.runner.startup import StartUp

EXCERPT_WIDTH = 160


class RunDisplay:
    """The record, screen and plot of one start. Errors here do not end the run; they are written to train.log.

    Args:
        output_dir: OUTPUT_DIR of the run.
        facts: what the run will do (facts.facts_of).
        began: when the launcher began, in seconds since the epoch.
        resumed: step of the checkpoint it resumes from, 0 for none.
        verbose: print what verl prints in place of the screen.
    """

    def __init__(self, output_dir: Path, facts: dict[str, Any], began: float, resumed: int, *, verbose: bool) -> None:
        self.failure = FailureReader()
        self.log = output_dir / "train.log"
        self._folder, self._verbose = output_dir, verbose
        self._notes: list[str] = []
        self._record = read_record(output_dir)
        self._record.facts = facts
        # A start's own file: steps that it repeats are not in it twice, nor those of a start that failed early.
        number = max(len(list((output_dir / "metrics").glob("*.jsonl"))), len(self._record.starts))
        self._start = Start(began, f"{number:04d}", resumed, {"input": time.time()})
        self._record.starts.append(self._start)
        self._save()
        self._plotter = Plotter(output_dir, self.log, self.note)
        stream = None if verbose else sys.stdout
        self._console = RunConsole(
            output_dir, len(self._record.starts) - 1, stream, self._drawing_failed, on_event=self._happened
        )
        self.readers: list[Callable[[str], None]] = [StartUp(self._start, self._save).feed, self.failure.feed]

    def begin(self) -> None:
        """Show the screen."""
        self._console.start()

    @property
    def name(self) -> str:
        """Of this start's metrics and TensorBoard files."""
        return self._start.metrics

    def note(self, text: str) -> None:
        """Report something that does not stop the run: below the screen now, and on stderr when the screen is gone."""
        if self._verbose:
            _say(f"vqathinker: {text}")
        else:
            self._notes.append(text)
            self._console.status = text

    def stopping(self, signal_name: str) -> None:
        """Show that the run is being stopped."""
        self._console.status = f"stopping ({signal_name})"

    def finish(self, code: int, reason: str | None, *, draw: bool) -> None:
        """Record the end, take the screen away, and show what this start did, if it took a step.

        Args:
            code: exit code of the launcher.
            reason: why it failed.
            draw: whether to wait for a last drawing of the picture.
        """
        self._start.ended, self._start.code, self._start.reason = time.time(), code, reason
        self._save()
        self._console.close()
        try:
            metrics = merge_metrics(self._folder)
        except OSError as error:  # of a full disk; the run's own failure is still to be reported
            self._notes.append(f"metrics.jsonl was not written: {error}")
            metrics = read_metrics(self._folder)
        for text in self._notes:
            _say(f"vqathinker: {text}")
        own = read_metrics(self._folder, self._start.metrics)
        if not series(own, "timing_s/step"):
            return
        if draw:
            self._plotter.finish()
        show_ending(metrics, self._folder)

    def _happened(self, event: Event) -> None:
        if isinstance(event, Validated) and event.step > 0:
            self._plotter.redraw()

    def _save(self) -> None:
        with suppress(OSError):  # of a full disk, which ends the run with a reason of its own
            self._record.save(self._folder)

    def _drawing_failed(self, trace: str) -> None:
        with suppress(OSError), self.log.open("a", encoding="utf-8") as log:
            log.write(f"vqathinker: the screen stopped:\n{trace}")
        _say("vqathinker: the screen stopped after an error, which is in train.log; the run continues")


def show_ending(metrics: dict[int, dict[str, Any]], output_dir: Path) -> None:
    """Print the results of a run; a closed pipe is not an error."""
    try:
        ending.show(metrics, output_dir)
        sys.stdout.flush()
    except OSError:
        give_up(sys.stdout)


def say_failure(code: int, reason: str, excerpt: list[str], log: Path, ray_logs: str) -> None:
    """The last lines of a run that failed: the end of the failed process's output, the complete reason, the logs."""
    first, *more = reason.splitlines()
    lines = []
    if len(excerpt) > 1 + len(more):  # more than the reason itself
        lines = ["vqathinker: the last lines of the process that failed:"]
        lines += [
            f"  | {line if len(line) <= EXCERPT_WIDTH else line[: EXCERPT_WIDTH - 3] + '...'}" for line in excerpt
        ]
    lines += [f"vqathinker: the run stopped with exit code {code}. Reason: {first}", *(f"  {line}" for line in more)]
    lines.append(f"vqathinker: complete log: {log}; Ray's logs: {ray_logs}")
    _say("\n".join(lines))


def _say(text: str) -> None:
    with suppress(OSError):  # the pipe was closed
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
