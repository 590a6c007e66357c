"""Published results to set beside our own, carried in reference.json with their source."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any


@dataclass(frozen=True)
class PublishedModel:
    """One row of the published table.

    Attributes:
        name: the model.
        srcc_plcc: benchmark -> (SRCC, PLCC); PLCC is NaN where only SRCC is published.
        not_comparable: why the row cannot be compared with a model trained on LSVQ; "" if it can.
    """

    name: str
    srcc_plcc: Mapping[str, tuple[float, float]]
    not_comparable: str = ""


@dataclass(frozen=True)
class Published:
    """The published table.

    Attributes:
        source: where it is from, and what its metrics are.
        benchmarks: their names, in the order of the table's columns.
        num_videos: benchmark -> number of videos it was computed on; a benchmark whose number is not known is left out.
        models: its rows.
    """

    source: str
    benchmarks: tuple[str, ...]
    num_videos: Mapping[str, int]
    models: tuple[PublishedModel, ...]


@lru_cache(maxsize=1)
def published() -> Published:
    """Return the published table; benchmarks have the names of the label registry."""
    content = json.loads(files("vqathinker_verl.evaluation").joinpath("reference.json").read_text("utf-8"))
    models = tuple(_model(row) for row in content["models"])
    sources = (f"{row['model']} (SRCC): {row['srcc_source']}" for row in content["models"] if "srcc_source" in row)
    source = "; ".join([content["source"], *sources])
    return Published(source, tuple(content["benchmarks"]), content["videos"], models)


def _model(row: Mapping[str, Any]) -> PublishedModel:
    pairs = {name: (pair[0], pair[1]) for name, pair in row.get("srcc_plcc", {}).items()}
    pairs |= {name: (srcc, math.nan) for name, srcc in row.get("srcc", {}).items()}
    return PublishedModel(row["model"], pairs, row.get("not_comparable", ""))
