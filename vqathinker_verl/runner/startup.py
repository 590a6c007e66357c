"""The phases of a start-up, recognized in what verl, Ray and vLLM print."""

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from vqathinker_verl.runner.record import Record, Start


@dataclass(frozen=True)
class Phase:
    """A phase of the start-up; `mark` is found in the first line that is printed after it."""

    name: str
    label: str
    mark: str | None


PHASES = (
    Phase("input", "input checked", None),  # by the launcher, which prints nothing
    Phase("ray", "Ray", r"Started a local Ray instance|Connected to Ray cluster"),
    Phase("trainer", "trainer process", r"\(TaskRunner\w* pid="),
    Phase("model", "model on trainer", r"actor and ref model engine initialized"),
    Phase("server", "vLLM server", r"LLMServerManager:"),
    Phase("validation", "first validation", r"Initial validation metrics|Training Progress"),
)


def phases_of(facts: Mapping[str, Any]) -> list[Phase]:
    """The phases of this run: without a validation before training, the last one is what remains until the first step.

    Args:
        facts: of the run (facts.facts_of).
    """
    if facts.get("first_validation", True):
        return list(PHASES)
    return [*PHASES[:-1], replace(PHASES[-1], label="training loop")]


class StartUp:
    """Follows the start-up in the lines of the log.

    Args:
        start: `start.reached` is filled in.
        changed: called after each phase, to save the record.
    """

    def __init__(self, start: Start, changed: Callable[[], None]) -> None:
        self._start, self._changed = start, changed

    def feed(self, line: str) -> None:
        """Read one line of the log. A mark ends the phases before it too: their own marks may not be printed."""
        if PHASES[-1].name in self._start.reached:
            return
        for position, phase in enumerate(PHASES):
            if phase.name not in self._start.reached and phase.mark and re.search(phase.mark, line):
                for done in PHASES[: position + 1]:
                    self._start.reached.setdefault(done.name, time.time())
                self._changed()


def durations(start: Start) -> dict[str, float]:
    """Seconds of each phase that was reached."""
    seconds, before = {}, start.began
    for phase in PHASES:
        if phase.name in start.reached:
            seconds[phase.name] = start.reached[phase.name] - before
            before = start.reached[phase.name]
    return seconds


def usual_durations(record: Record) -> dict[str, float]:
    """Seconds of each phase in the last start before this one that came through its start-up."""
    for start in reversed(record.starts[:-1]):
        if PHASES[-1].name in start.reached:
            return durations(start)
    return {}
