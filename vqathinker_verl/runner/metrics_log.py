"""The metrics of a run, from the files that verl's file logger wrote.

Every start of a run writes its own file OUTPUT_DIR/metrics/NNNN.jsonl, because verl's logger begins with an empty one
each time. They are merged into OUTPUT_DIR/metrics.jsonl, one line per step; a step that was repeated after a resume
counts once, with the values of its last repetition.
"""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vqathinker_verl.files import write_jsonl

# The terms of the reward, as logged under reward/.
COMPONENTS = ("overall", "regression", "ranking", "temporal", "format")
# Names of a validation's metrics under val/SOURCE/.
VALIDATION = ("srcc", "plcc_raw", "krcc", "rmse_raw", "parse_failure_rate")

Metrics = dict[int, dict[str, Any]]


class JsonLines:
    """Reads a JSONL file while another process appends to it: each call returns the new complete lines.

    A line that is not JSON (cut off when the writer was killed) is left out.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read = 0

    def new(self) -> Iterator[dict[str, Any]]:
        """The lines that were completed since the last call."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._read)
                text = file.read()
        except OSError:  # it does not exist yet
            return
        complete = text[: text.rfind(b"\n") + 1]
        self._read += len(complete)
        for line in complete.splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if isinstance(entry, dict):
                yield entry


def merge_metrics(output_dir: Path) -> Metrics:
    """Read OUTPUT_DIR/metrics/*.jsonl in the order of their names, write metrics.jsonl, return {step: metrics}."""
    merged = read_metrics(output_dir)
    write_jsonl(output_dir / "metrics.jsonl", ({"step": step, **data} for step, data in merged.items()))
    return merged


def read_metrics(output_dir: Path, start: str = "*") -> Metrics:
    """{step: metrics} of all starts, or of the one with this name, in the order of the steps."""
    merged: Metrics = {}
    for path in sorted((output_dir / "metrics").glob(f"{start}.jsonl")):
        for entry in JsonLines(path).new():
            merged.setdefault(entry["step"], {}).update(entry["data"])
    return dict(sorted(merged.items()))


def number(data: Mapping[str, Any], name: str) -> float:
    """One metric as a float; NaN where it was not logged or is undefined (JSON has null for NaN)."""
    value = data.get(name)
    return float(value) if isinstance(value, int | float) else math.nan


def series(metrics: Mapping[int, Mapping[str, Any]], name: str) -> dict[int, float]:
    """The finite values of one metric by step."""
    values = {step: number(data, name) for step, data in metrics.items()}
    return {step: value for step, value in values.items() if math.isfinite(value)}


def sources_of(data: Mapping[str, Any]) -> list[str]:
    """Data sources that were validated at one step, whether or not their SRCC is defined."""
    names = (name for name in data if name.startswith("val/") and name.endswith("/srcc"))
    return sorted(name.removeprefix("val/").removesuffix("/srcc") for name in names)


def validation_number(data: Mapping[str, Any], source: str, name: str) -> float:
    """One metric of a validation, by its name in `VALIDATION`.

    A run without `plcc_raw` and `rmse_raw` logs these two as `plcc` and `rmse`; a run with them logs the values after
    the logistic fit there.
    """
    key = f"val/{source}/{name}"
    return number(data, key if key in data else key.removesuffix("_raw"))


def mean_srcc(data: Mapping[str, Any]) -> float:
    """Mean of the held-out SRCC over the data sources of one validation; NaN without one, or if one is undefined."""
    values = [number(data, f"val/{source}/srcc") for source in sources_of(data)]
    return sum(values) / len(values) if values else math.nan


def best_step(metrics: Mapping[int, Mapping[str, Any]]) -> int | None:
    """The step whose validation has the highest mean SRCC, the first of equal ones; None where none is defined."""
    values = {step: mean_srcc(data) for step, data in metrics.items()}
    defined = {step: value for step, value in values.items() if math.isfinite(value)}
    return max(defined, key=lambda step: defined[step]) if defined else None
