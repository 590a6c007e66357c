"""Published results to set beside our own, carried in reference.json with their source."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files


@dataclass(frozen=True)
class PublishedModel:
    """One row of the published table: benchmark -> (SRCC, PLCC)."""

    name: str
    srcc_plcc: Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Published:
    """The published table.

    Attributes:
        source: where it is from, and what its figures are.
        num_videos: benchmark -> number of videos it was computed on.
        models: its rows.
    """

    source: str
    num_videos: Mapping[str, int]
    models: tuple[PublishedModel, ...]


@lru_cache(maxsize=1)
def published() -> Published:
    """Return the published table; benchmarks have the names of the label registry."""
    content = json.loads(files("vqathinker_verl.evaluation").joinpath("reference.json").read_text("utf-8"))
    models = (
        PublishedModel(row["model"], {name: (pair[0], pair[1]) for name, pair in row["srcc_plcc"].items()})
        for row in content["models"]
    )
    return Published(content["source"], content["videos"], tuple(models))
