"""The benchmarks we know: scale, size, citation, label files and folder layout. A user's file adds to them.

`datasets.json` in this folder and a user's own file have the same form, which docs/data.md explains.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from vqathinker_verl.data.json_fields import CHECKED, read_json
from vqathinker_verl.data.records import LabelError


def _checked_scale(scale: tuple[float, float]) -> tuple[float, float]:
    if not (math.isfinite(scale[0]) and math.isfinite(scale[1]) and scale[0] < scale[1]):
        raise ValueError("expected [lowest, highest]")
    return scale


def _checked_scheme(path: str) -> str:
    if path.count("{id}") != 1:
        raise ValueError("expected a path with one {id}")
    return path


Scale = Annotated[tuple[float, float], AfterValidator(_checked_scale)]
Count = Annotated[int, Field(ge=1)]
Names = Annotated[tuple[str, ...], Field(min_length=1)]


@dataclass(frozen=True)
class AnnotationFile:
    """A JSON annotation file: the scale of its scores and how many it holds (None: not known)."""

    __pydantic_config__ = CHECKED

    scale: Scale
    videos: Count | None = None


@dataclass(frozen=True)
class Subset:
    """The rows of a label table whose `column` holds one of `values`."""

    __pydantic_config__ = CHECKED

    column: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class FolderLayout:
    """Where a dataset's authors keep its labels.

    Videos are not looked for at a fixed place but by name, anywhere in the folder.

    Args:
        labels: Names of the label file, the first found is read; `*` stands for anything.
        video: Columns that may hold the video's name, the first that exists is read.
        mos: Columns that may hold the MOS, likewise.
        names: File names without suffix that a video may have, with columns in braces; {video} is the video column and
            {basename} its last part.
        header: Names of the columns when the file does not state them.
        replace: Column -> value in the file -> value to use in `names`.
        transposed: The table's columns are its rows.
        sheet: Sheet of a workbook.
        subsets: Parts that can be asked for by name.
    """

    __pydantic_config__ = CHECKED

    labels: Names
    video: Names
    mos: Names
    names: Names = ("{video}",)
    header: Names | None = None
    replace: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    transposed: bool = False
    sheet: str | None = None
    subsets: Mapping[str, Subset] = field(default_factory=dict)


@dataclass(frozen=True)
class Dataset:
    """One dataset.

    Args:
        name: Its name, which becomes verl's data_source: its key in the file.
        citation: The paper to cite.
        scale: The lowest and highest MOS possible in its authors' labels.
        videos: How many videos its authors published; None: not known.
        annotations: Name of a JSON annotation file -> its scale, which may be another, and its count.
        folder: Its published layout; None: unknown.
        lower_is_better: Its scores are DMOS, of which less is better.
        video_names: Naming schemes of its videos, if there are several: paths with {id} for what they have in common.
    """

    __pydantic_config__ = CHECKED

    citation: str
    scale: Scale
    videos: Count | None = None
    annotations: Mapping[str, AnnotationFile] = field(default_factory=dict)
    folder: FolderLayout | None = None
    lower_is_better: bool = False
    video_names: tuple[Annotated[str, AfterValidator(_checked_scheme)], ...] = ()
    name: str = ""


Registry = Mapping[str, Dataset]


def load_registry(user_file: Path | None = None) -> dict[str, Dataset]:
    """Return the known datasets by name; those of `user_file` are added, or replace the known ones.

    Raises:
        LabelError: The file cannot be read or is not of the form in docs/data.md.
    """
    registry = _parse(files("vqathinker_verl.data").joinpath("datasets.json").read_text("utf-8"), "datasets.json")
    if user_file is not None:
        try:
            text = user_file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise LabelError(f"{user_file}: cannot be read ({error})") from error
        registry.update(_parse(text, str(user_file)))
    return registry


def dataset_of_annotations(registry: Registry, file_name: str) -> tuple[Dataset, AnnotationFile] | None:
    """The dataset whose annotation file is called `file_name`, and what is known of it; None: no such file."""
    for dataset in registry.values():
        if file_name in dataset.annotations:
            return dataset, dataset.annotations[file_name]
    return None


def _parse(text: str, where: str) -> dict[str, Dataset]:
    return {name: replace(entry, name=name) for name, entry in read_json(dict[str, Dataset], text, where).items()}
