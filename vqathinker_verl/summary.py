"""`vqathinker summary OUTPUT_DIR`: what a training run did, from the metrics that verl's file logger wrote.

Every start of a run writes its own file under OUTPUT_DIR/metrics, since verl's logger begins an empty one each time.
They are merged into OUTPUT_DIR/metrics.jsonl, one line a step; a step that was done again after a resume counts once,
as it was done last.
"""

import argparse
import json
import math
import os
import statistics
import sys
from pathlib import Path
from typing import Any

from vqathinker_verl.verl_integration.memory import peak_bytes

COMPONENTS = ("regression", "ranking", "temporal", "format", "total")

Metrics = dict[int, dict[str, Any]]

EXAMPLE = "vqathinker summary outputs/vqathinker"
EXIT_CODES = "0: printed; 2: no training step to show"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the subcommand's arguments."""
    parser.add_argument("output_dir", type=Path, metavar="OUTPUT_DIR", help="output folder of the run")
    parser.add_argument("--no-plots", action="store_true", help="print the table only")


def run(args: argparse.Namespace) -> int:
    """Merge, print, plot. Exit code 2 where there is nothing to read."""
    if not (args.output_dir / "metrics").is_dir():
        print(f"vqathinker summary: {args.output_dir} is no run's OUTPUT_DIR: it has no metrics", file=sys.stderr)
        return 2
    metrics = merge_metrics(args.output_dir)
    if not any("timing_s/step" in data for data in metrics.values()):
        print(f"vqathinker summary: no training step in {args.output_dir}/metrics; has the run started?")
        return 2
    plots = [] if args.no_plots else plot(metrics, args.output_dir / "plots")
    print(table(metrics, args.output_dir, plots))
    return 0


def merge_metrics(output_dir: Path) -> Metrics:
    """Read OUTPUT_DIR/metrics/*.jsonl in the order of their names, write metrics.jsonl, return {step: metrics}.

    A line that was cut off by a kill is the last of its file and is left out; its step is done again on resume.
    """
    merged: Metrics = {}
    for path in sorted((output_dir / "metrics").glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                break
            merged.setdefault(entry["step"], {}).update(entry["data"])
    target = output_dir / "metrics.jsonl"
    partial = target.with_suffix(".partial")
    with partial.open("w", encoding="utf-8") as file:
        for step in sorted(merged):
            file.write(json.dumps({"step": step, **merged[step]}) + "\n")
    os.replace(partial, target)
    return dict(sorted(merged.items()))


def series(metrics: Metrics, name: str) -> dict[int, float]:
    """The finite values of one metric by step."""
    values = {step: data[name] for step, data in metrics.items() if isinstance(data.get(name), int | float)}
    return {step: float(value) for step, value in values.items() if math.isfinite(value)}


def validated_sources(metrics: Metrics) -> list[str]:
    """Data sources with an SRCC at some validation, defined or not."""
    names = {name for data in metrics.values() for name in data if name.startswith("val/") and name.endswith("/srcc")}
    return sorted(name.removeprefix("val/").removesuffix("/srcc") for name in names)


def table(metrics: Metrics, output_dir: Path, plots: list[Path]) -> str:
    """The summary as text: steps, seconds a step, components and correlations first and last, where things are."""
    step_seconds = series(metrics, "timing_s/step")
    lines = [
        f"steps            {len(step_seconds)} (last: {max(step_seconds)})",
        f"seconds a step   {statistics.median(step_seconds.values()):.1f} (median)",
        "",
        f"{'':24}{'first':>10}{'last':>10}",
    ]
    rows = [(f"reward/{name}", f"reward/{name}") for name in COMPONENTS]
    for source in validated_sources(metrics):
        rows += [(f"{source} {name.upper()}", f"val/{source}/{name}") for name in ("srcc", "plcc")]
    for label, name in rows:
        logged = [data[name] for data in metrics.values() if name in data]
        lines.append(
            f"{label:24}{_number(logged[0]):>10}{_number(logged[-1]):>10}" if logged else f"{label:24} not logged"
        )
    lines += [
        "",
        f"peak memory      {peak_bytes(output_dir / 'memory.jsonl') / 2**30:.1f} GiB, all processes together",
        f"checkpoints      {output_dir / 'checkpoints'}",
        f"metrics          {output_dir / 'metrics.jsonl'}",
        f"tensorboard      {output_dir / 'tensorboard'}",
        *(f"plot             {path}" for path in plots),
    ]
    return "\n".join(lines)


def _number(value: float | None) -> str:
    """A logged value; JSON has null for NaN, which is what a correlation with a constant is."""
    return "undefined" if value is None or math.isnan(value) else f"{value:.3f}"


def plot(metrics: Metrics, folder: Path) -> list[Path]:
    """Draw the reward components and the validation correlations against steps; returns the pictures' paths."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    folder.mkdir(parents=True, exist_ok=True)
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for name in COMPONENTS:
        values = series(metrics, f"reward/{name}")
        left.plot(list(values), list(values.values()), label=name)
    left.set(xlabel="step", ylabel="mean over the batch", title="Rewards")
    left.set_ylim(0, 1.3 * left.get_ylim()[1])  # room for the legend
    left.legend(fontsize="small", ncols=3, loc="upper center")
    for source in validated_sources(metrics):
        for name, style in (("srcc", "-o"), ("plcc", "--s")):
            values = series(metrics, f"val/{source}/{name}")
            right.plot(list(values), list(values.values()), style, label=f"{source} {name.upper()}")
    right.axhline(0.0, color="grey", linewidth=0.5)
    right.set(xlabel="step", ylabel="correlation with MOS", title="Validation", ylim=(-1, 1))
    right.legend(fontsize="small", loc="lower right")
    path = folder / "training.png"
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    return [path]
