"""The output of a run without a terminal (a file, Slurm, CI): one line of at most 160 characters per event."""

import math
import time

from vqathinker_verl.runner import text
from vqathinker_verl.runner.events import Event, PhaseDone, RunState, Saved, Started, StepDone, Validated
from vqathinker_verl.runner.metrics_log import mean_srcc, number, sources_of, validation_number
from vqathinker_verl.runner.screen import FACTS

WIDTH = 160
STEP = (
    ("reward", "reward/overall", 3),
    ("regr", "reward/regression", 3),
    ("rank", "reward/ranking", 3),
    ("temp", "reward/temporal", 3),
    ("format", "reward/format", 3),
    ("srcc", "reward/srcc", 2),
    ("spread", "reward/group_std", 2),
    ("kl", "actor/kl_loss", 2),
)


def lines(event: Event, state: RunState, folder: str, *, now: bool = True) -> list[str]:
    """The lines of an event.

    Args:
        event: what happened.
        state: of the run after it.
        folder: OUTPUT_DIR as the user knows it.
        now: whether it has just happened; the time of earlier events is not known.
    """
    stamp = time.strftime("%H:%M:%S ") if now else ""
    return [_cut(stamp + text.printable(line)) for line in _lines(event, state, folder, now)]


def _lines(event: Event, state: RunState, folder: str, now: bool) -> list[str]:
    if isinstance(event, Started):
        start = event.start
        resumed = f"resumes after step {start.resumed}" if start.resumed else "from the beginning"
        facts = [f"{name} {state.facts[name]}" for name in FACTS if name in state.facts]
        return [f"start {folder}, {resumed}; log {folder}/train.log", *facts]
    if isinstance(event, PhaseDone):
        done = [f"ok {event.label} ({event.seconds:.0f} s)"]
        return [*done, f"ready after {event.ready_after:.0f} s"] if event.ready_after is not None else done
    if isinstance(event, StepDone):
        data = event.data
        values = [f"{name}={text.fixed(number(data, key), decimals)}" for name, key, decimals in STEP]
        values.append(f"no_score={text.percent(number(data, 'reward/parse_failure_rate'))}")
        values.append(f"{number(data, 'timing_s/step'):.1f}s")
        left = state.seconds_left()
        if now and left is not None and event.step < state.total_steps:
            values.append(f"left={text.clock(left)}")
        step = f"step {event.step}/{state.total_steps} {' '.join(values)}"
        return [step, *(f"warning: step {event.step}: {trouble.text}" for trouble in event.new)]
    if isinstance(event, Validated):
        return _validation(event)
    if isinstance(event, Saved):
        return [f"saved checkpoints/global_step_{event.step}"]
    return []


def _validation(event: Validated) -> list[str]:
    sources = sources_of(event.data)
    best = (
        " best" if event.best else f" (best {event.earlier[1]:.3f} at step {event.earlier[0]})" if event.earlier else ""
    )
    seconds = number(event.data, "timing_s/testing")
    took = f" {seconds:.0f}s" if math.isfinite(seconds) else ""
    failed = number(event.data, "val/failed_responses")
    said = []
    if len(sources) > 1:
        said.append(f"val {event.step} mean srcc={text.fixed(mean_srcc(event.data))}{best}{took}")
        best = took = ""
    for source in sources:
        values = [
            f"{name}={text.fixed(validation_number(event.data, source, name))}"
            for name in ("srcc", "plcc_raw", "krcc", "rmse_raw")
        ]
        no_score = text.percent(validation_number(event.data, source, "parse_failure_rate"))
        said.append(f"val {event.step} {source} {' '.join(values)} no_score={no_score}{best}{took}")
    if failed > 0:
        said.append(f"warning: val {event.step}: {failed:.0f} answers failed; train.log has the reasons")
    return said


def _cut(line: str) -> str:
    return line if len(line) <= WIDTH else line[: WIDTH - 3] + "..."
