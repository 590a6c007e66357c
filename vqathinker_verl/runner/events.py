"""Follows a run in the files of its OUTPUT_DIR: what happened since the last look, and the state now."""

import json
import math
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vqathinker_verl.runner.metrics_log import JsonLines, Metrics, mean_srcc, read_metrics, series, sources_of
from vqathinker_verl.runner.record import Record, Start, read_record
from vqathinker_verl.runner.startup import PHASES, durations, phases_of
from vqathinker_verl.runner.troubles import RECENT_STEPS, Trouble, troubles_of


@dataclass(frozen=True)
class Started:
    """The run was started, or started again."""

    start: Start


@dataclass(frozen=True)
class PhaseDone:
    """A phase of the start-up is over."""

    label: str
    seconds: float
    ready_after: float | None  # seconds since the start, for the last phase


@dataclass(frozen=True)
class StepDone:
    """A training step; `new` are the troubles that the step before it did not have."""

    step: int
    data: dict[str, Any]
    troubles: list[Trouble]
    new: list[Trouble]


@dataclass(frozen=True)
class Validated:
    """A validation.

    `best`: whether its mean SRCC is the highest so far. `earlier`: the step and the mean SRCC of the best one before.
    """

    step: int
    data: dict[str, Any]
    best: bool
    earlier: tuple[int, float] | None


@dataclass(frozen=True)
class Saved:
    """A checkpoint was saved."""

    step: int


@dataclass(frozen=True)
class Ended:
    """The start ended, with its exit code."""

    start: Start


Event = Started | PhaseDone | StepDone | Validated | Saved | Ended


@dataclass
class RunState:
    """What is known of a run now.

    Attributes:
        record: run.json.
        metrics: by step.
        srcc: held-out SRCC, the mean over the data sources, by the step of the validation; NaN where undefined.
        last_step: the last training step that is done, 0 before the first one.
        memory: bytes of all processes together, in the last sample.
        sample: one line of the last rollouts/STEP.jsonl.
        sampled_step: the step that these rollouts are of.
    """

    record: Record = field(default_factory=Record)
    metrics: Metrics = field(default_factory=dict)
    srcc: dict[int, float] = field(default_factory=dict)
    last_step: int = 0
    memory: int = 0
    sample: dict[str, Any] | None = None
    sampled_step: int = 0
    troubles: list[Trouble] = field(default_factory=list)

    @property
    def facts(self) -> dict[str, Any]:
        """Of run.json."""
        return self.record.facts

    @property
    def total_steps(self) -> int:
        """Steps that the run is to take."""
        return max(int(self.facts.get("total_steps") or 0), self.last_step)

    def due(self, frequency: str, step: int) -> bool:
        """Whether verl validates (`test_freq`) or saves (`save_freq`) after this step."""
        every = int(self.facts.get(frequency) or 0)
        return every > 0 and (step % every == 0 or step >= self.total_steps)

    def left(self, frequency: str) -> int:
        """How many validations or saves there are still to come."""
        every = int(self.facts.get(frequency) or 0)
        if not every or self.last_step >= self.total_steps:
            return 0
        return self.total_steps // every - self.last_step // every + (self.total_steps % every > 0)

    def seconds_left(self) -> float | None:
        """Expected time to the end: median step, and the last validation and save for each that is to come."""
        steps = series(self.metrics, "timing_s/step")
        if not steps:
            return None
        saves = series(self.metrics, "timing_s/save_checkpoint")
        typical = statistics.median(seconds - saves.get(step, 0.0) for step, seconds in steps.items())
        seconds = typical * (self.total_steps - self.last_step)
        for name, frequency in (("timing_s/testing", "test_freq"), ("timing_s/save_checkpoint", "save_freq")):
            known = list(series(self.metrics, name).values())
            seconds += (known[-1] if known else 0.0) * self.left(frequency)
        return seconds


class RunReader:
    """Reads a run's files.

    Args:
        output_dir: OUTPUT_DIR of the run.
        first: number of the start whose events are wanted first; the metrics of earlier ones only enter the state.
    """

    def __init__(self, output_dir: Path, first: int = 0) -> None:
        self.state = RunState(record=read_record(output_dir))
        self._folder = output_dir
        self._current = first
        self._announced: set[tuple[int, str]] = set()
        self._lines: JsonLines | None = None
        self._memory = JsonLines(output_dir / "memory.jsonl")
        if first:
            self.state.metrics = read_metrics(output_dir)
        self.state.srcc = {step: mean_srcc(data) for step, data in self.state.metrics.items() if sources_of(data)}

    def poll(self) -> list[Event]:
        """What happened since the last call."""
        self.state.record = read_record(self._folder)
        events: list[Event] = []
        while self._current < len(self.state.record.starts):
            start = self.state.record.starts[self._current]
            events += self._of_start(start)
            if self._current + 1 >= len(self.state.record.starts):
                break
            self._current += 1
            self._lines = None
        for line in self._memory.new():
            self.state.memory = int(line.get("bytes") or 0)
        self._look_at_rollouts()
        return events

    def _once(self, name: str) -> bool:
        key = (self._current, name)
        if key in self._announced:
            return False
        self._announced.add(key)
        return True

    def _of_start(self, start: Start) -> Iterator[Event]:
        if self._once("start"):
            self.state.last_step = self.state.sampled_step = start.resumed
            self.state.troubles = []
            yield Started(start)
        if self._lines is None:
            self._lines = JsonLines(self._folder / "metrics" / f"{start.metrics}.jsonl")
        entries = list(self._lines.new())
        if entries:  # the first metrics come before the mark in the log, which Ray passes on with a delay
            for phase in PHASES:
                start.reached.setdefault(phase.name, time.time())
        yield from self._of_phases(start)
        for entry in entries:
            yield from self._of_metrics(int(entry["step"]), entry["data"])
        if start.ended is not None and self._once("end"):
            yield Ended(start)

    def _of_phases(self, start: Start) -> Iterator[Event]:
        seconds = durations(start)
        for phase in phases_of(self.state.facts):
            if phase.name in seconds and self._once(phase.name):
                last = phase.name == PHASES[-1].name
                yield PhaseDone(
                    phase.label, seconds[phase.name], start.reached[phase.name] - start.began if last else None
                )

    def _of_metrics(self, step: int, data: dict[str, Any]) -> Iterator[Event]:
        state = self.state
        if "timing_s/step" in data:
            recent = [state.metrics[before] for before in range(step - RECENT_STEPS, step) if before in state.metrics]
            trained = [line for line in recent if "timing_s/step" in line]
            troubles = troubles_of(data, trained, state.facts.get("max_response_length"))
            known = {trouble.metric for trouble in state.troubles}
            new = [trouble for trouble in troubles if trouble.metric not in known]
            state.last_step, state.troubles = step, troubles
            yield StepDone(step, data, troubles, new)
        if "timing_s/save_checkpoint" in data:
            yield Saved(step)
        state.metrics.setdefault(step, {}).update(data)
        if sources_of(data):
            before = {at: value for at, value in state.srcc.items() if at < step and math.isfinite(value)}
            earlier = max(before.items(), key=lambda item: item[1]) if before else None
            value = state.srcc[step] = mean_srcc(data)
            best = math.isfinite(value) and (earlier is None or value > earlier[1])
            yield Validated(step, data, best, earlier)

    def _look_at_rollouts(self) -> None:
        """Of the step that is under way: verl writes them when its rewards are known. An earlier start's are older."""
        if not self.state.record.starts:
            return
        began = self.state.record.starts[self._current].began
        for step in (self.state.last_step + 1, self.state.last_step):
            path = self._folder / "rollouts" / f"{step}.jsonl"
            try:
                if step > self.state.sampled_step and path.stat().st_mtime >= began:
                    with path.open(encoding="utf-8") as file:
                        self.state.sample = json.loads(file.readline())
                    self.state.sampled_step = step
                    return
            except (OSError, ValueError):  # not there yet
                continue


def elapsed(start: Start) -> float:
    """Seconds since a start began, or that it took."""
    return (start.ended or time.time()) - start.began
