"""The results of a run: the screen at its end, which `vqathinker summary` shows as well."""

import math
import shlex
import statistics
import sys
from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from vqathinker_verl.runner import text
from vqathinker_verl.runner.checkpoints import saved_steps
from vqathinker_verl.runner.console import rich_console
from vqathinker_verl.runner.facts import shown_path
from vqathinker_verl.runner.memory import peak_bytes
from vqathinker_verl.runner.metrics_log import (
    COMPONENTS,
    VALIDATION,
    Metrics,
    best_step,
    mean_srcc,
    number,
    series,
    sources_of,
    validation_number,
)
from vqathinker_verl.runner.record import read_record, seconds_of

FIRST_AND_LAST = 3  # steps
FILE_WIDTH = 160  # where there is no terminal
TITLES = ("SRCC", "PLCC raw", "KRCC", "RMSE raw", "no score")
FILES = ("plots/training.png", "metrics.jsonl", "rollouts", "validation", "tensorboard", "checkpoints", "train.log")


def ending(metrics: Metrics, output_dir: Path, width: int) -> RenderableType:
    """Steps and time, rewards first and last, every validation, files, and the next commands.

    Args:
        metrics: of all steps, at least one of them a training step.
        output_dir: OUTPUT_DIR of the run.
        width: of the terminal; longer commands are continued on further lines, as a shell takes them.
    """
    parts: list[RenderableType] = [Text(), *_totals(metrics, output_dir), Text(), _rewards(metrics)]
    if any(sources_of(data) for data in metrics.values()):
        parts += [Text(), _validations(metrics), _chance(metrics)]
    return Group(*parts, Text(), _files_and_next(metrics, output_dir, width))


def show(metrics: Metrics, output_dir: Path) -> None:
    """Print it to stdout."""
    console = rich_console(sys.stdout)
    if not console.is_terminal:
        console.width = FILE_WIDTH
    console.print(ending(metrics, output_dir, console.width))


def _totals(metrics: Metrics, output_dir: Path) -> list[Text]:
    steps, record = series(metrics, "timing_s/step"), read_record(output_dir)
    seconds = sum(seconds_of(start, output_dir) for start in record.starts)
    time = f" in {text.clock(seconds)}" if record.starts else ""
    starts = f", {len(record.starts)} starts" if len(record.starts) > 1 else ""
    planned = int(record.facts.get("total_steps") or 0)
    of = f" of {planned}" if planned > max(steps) else ""
    peak = peak_bytes(output_dir / "memory.jsonl")
    memory = f"; peak memory {text.gibibytes(peak)}" if peak else ""
    pace = f"{statistics.median(steps.values()):.1f} s per step (median)"
    lines = [Text(f"{max(steps)}{of} steps{time}{starts}; {pace}{memory}", style="bold")]
    failed = sum(series(metrics, "rollout/total_failed_responses").values())
    if failed:
        lines.append(
            Text(f"{failed:.0f} answers failed and were not trained on; train.log has the reasons", style="red")
        )
    return lines


def _rewards(metrics: Metrics) -> Table:
    steps = len(series(metrics, "timing_s/step"))
    count = min(FIRST_AND_LAST, steps)
    label = "step" if count == 1 else f"{count} steps"
    table = _table("", f"first {label}", f"last {label}")
    for name in (*COMPONENTS, "parse_failure_rate"):
        values = list(series(metrics, f"reward/{name}").values())
        first, last = text.first_and_last(values, count)
        shown = text.percent if name == "parse_failure_rate" else _defined
        title = {"parse_failure_rate": "answers without a score", "overall": "reward"}.get(name, f"  {name}")
        table.add_row(title, shown(first), shown(last))
    return table


def _validations(metrics: Metrics) -> Table:
    """A row per validation; where there are several data sources their mean, and each of them for the best and last."""
    validated = {step: data for step, data in metrics.items() if sources_of(data)}
    best, last = best_step(metrics), max(validated)
    table = _table("validation", "step", *TITLES, "videos", "")
    for step, data in validated.items():
        sources = sources_of(data)
        note = "best" if step == best else ""
        if len(sources) > 1:
            means = [
                statistics.fmean(validation_number(data, source, name) for source in sources) for name in VALIDATION
            ]
            table.add_row("mean", str(step), *_cells(means), "", note, style="bold" if note else "")
            note = ""
            if step not in (best, last):
                continue
        for source in sources:
            values = [validation_number(data, source, name) for name in VALIDATION]
            videos = text.fixed(number(data, f"val/{source}/scored"), 0)
            table.add_row(source, str(step), *_cells(values), videos, note, style="bold" if note else "")
    return table


def _cells(values: list[float]) -> list[str]:
    return [*map(_defined, values[:-1]), text.percent(values[-1])]


def _chance(metrics: Metrics) -> Text:
    """How large an SRCC may be by chance: so that few videos are not taken for a result."""
    data = next(data for _, data in sorted(metrics.items(), reverse=True) if sources_of(data))
    videos = min(number(data, f"val/{source}/scored") for source in sources_of(data))
    if not videos > 2:
        return Text()
    bound = min(1.96 / math.sqrt(videos - 1), 1.0)
    return Text(f"With {videos:.0f} videos, an SRCC between -{bound:.2f} and {bound:.2f} can be chance.", style="dim")


def _files_and_next(metrics: Metrics, output_dir: Path, width: int) -> Group:
    folder = shown_path(output_dir)
    there = [name for name in FILES if (output_dir / name).exists()]
    lines = [_plain(f"files in {folder}: {', '.join(there)}")]
    model = shlex.quote(f"{folder}/model")
    saved = saved_steps(output_dir)
    if not saved:
        return Group(*lines, _plain("no checkpoint was saved, so there is no model to export"))
    best = best_step({step: data for step, data in metrics.items() if step in saved and math.isfinite(mean_srcc(data))})
    step = best if best is not None else saved[-1]
    overall = best_step(metrics)
    if overall is not None and overall != best:
        lines.append(_plain(f"the best validation, at step {overall}, has no checkpoint"))
    labels = [shlex.quote(shown_path(path)) for path in read_record(output_dir).facts.get("val_files", [])] or [
        "LABELS"
    ]
    export = ["vqathinker export", shlex.quote(folder), f"--step {step}", f"--output-dir {model}"]
    evaluate = ["vqathinker evaluate", f"--model {model}", f"--labels {' '.join(labels)}"]
    evaluate.append(f"--output-dir {shlex.quote(f'{folder}/report')}")
    return Group(*lines, _plain("next:"), *map(_plain, [*_command(export, width), *_command(evaluate, width)]))


def _command(words: list[str], width: int) -> list[str]:
    """A command on one line, or continued on further ones where it is too long."""
    lines = ["  " + words[0]]
    for word in words[1:]:
        if len(lines[-1]) + len(word) + 3 > width:
            lines[-1] += " \\"
            lines.append(f"    {word}")
        else:
            lines[-1] += f" {word}"
    return lines


def _plain(line: str) -> Text:
    return Text(line, overflow="fold")


def _defined(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "undefined"


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold cyan")
    table.add_column(first, overflow="ellipsis", no_wrap=True)
    for title in others:
        table.add_column(title, justify="left" if not title else "right", no_wrap=True)
    return table
