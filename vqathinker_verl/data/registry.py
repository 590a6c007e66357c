"""The benchmarks we know: scale, size, citation, label files and folder layout. A user's file adds to them.

`datasets.json` beside this module and a user's own file have one form, explained in docs/data.md.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib.resources import files
from pathlib import Path
from typing import Any

from vqathinker_verl.data.records import LabelError

Scale = tuple[float, float]


@dataclass(frozen=True)
class AnnotationFile:
    """A JSON annotation file: the scale of its scores and how many it holds (None: not known)."""

    scale: Scale
    videos: int | None = None


@dataclass(frozen=True)
class Subset:
    """The rows of a label table whose `column` holds one of `values`."""

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

    labels: tuple[str, ...]
    video: tuple[str, ...]
    mos: tuple[str, ...]
    names: tuple[str, ...] = ("{video}",)
    header: tuple[str, ...] | None = None
    replace: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    transposed: bool = False
    sheet: str | None = None
    subsets: Mapping[str, Subset] = field(default_factory=dict)


@dataclass(frozen=True)
class Dataset:
    """One dataset.

    Args:
        name: Its name, which becomes verl's data_source.
        citation: The paper to cite.
        scale: The lowest and highest MOS possible in its authors' labels.
        videos: How many videos its authors published; None: not known.
        annotations: Name of a JSON annotation file -> its scale, which may be another, and its count.
        folder: Its published layout; None: unknown.
        lower_is_better: Its scores are DMOS, of which less is better.
        video_names: Naming schemes of its videos, if there are several: paths with {id} for what they have in common.
    """

    name: str
    citation: str
    scale: Scale
    videos: int | None = None
    annotations: Mapping[str, AnnotationFile] = field(default_factory=dict)
    folder: FolderLayout | None = None
    lower_is_better: bool = False
    video_names: tuple[str, ...] = ()


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
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise LabelError(f"{where}: cannot be read as JSON ({error})") from error
    if not isinstance(content, Mapping):
        raise LabelError(f'{where}: expected {{"NAME": {{...}}, ...}}, got {type(content).__name__}')
    return {name: _dataset(name, entry, f"{where}: {name}") for name, entry in content.items()}


def _dataset(name: str, entry: Any, where: str) -> Dataset:
    values = _fields(Dataset, {"name": name, **entry} if isinstance(entry, Mapping) else entry, where)
    values["scale"] = _scale(values["scale"], where)
    _check_count(values.get("videos"), where)
    if not isinstance(values.get("lower_is_better", False), bool):
        raise LabelError(f"{where}: lower_is_better: expected true or false, got {values['lower_is_better']!r}")
    schemes = values.get("video_names", [])
    if not isinstance(schemes, list) or not all(isinstance(name, str) and name.count("{id}") == 1 for name in schemes):
        raise LabelError(f"{where}: video_names: expected a list of paths with one {{id}} each, got {schemes!r}")
    values["video_names"] = tuple(schemes)
    annotations = {}
    for file, facts in _mapping(values, "annotations", where).items():
        known = _fields(AnnotationFile, facts, f"{where}: {file}")
        _check_count(known.get("videos"), f"{where}: {file}")
        annotations[file] = AnnotationFile(_scale(known["scale"], f"{where}: {file}"), known.get("videos"))
    values["annotations"] = annotations
    if values.get("folder") is not None:
        values["folder"] = _layout(values["folder"], f"{where}: folder")
    return Dataset(**values)


def _layout(entry: Any, where: str) -> FolderLayout:
    values = _fields(FolderLayout, entry, where)
    for key in ("labels", "video", "mos", "names", "header"):
        if key in values:
            if not isinstance(values[key], list) or not values[key]:
                raise LabelError(f"{where}: {key}: expected a list of names, got {values[key]!r}")
            values[key] = tuple(map(str, values[key]))
    subsets = {}
    for column, names in _mapping(values, "replace", where).items():
        if not isinstance(names, Mapping):
            raise LabelError(f"{where}: replace: {column}: expected {{...}}, got {names!r}")
    for name, subset in _mapping(values, "subsets", where).items():
        parts = _fields(Subset, subset, f"{where}: subset {name}")
        if not isinstance(parts["values"], list):
            raise LabelError(f"{where}: subset {name}: values: expected a list, got {parts['values']!r}")
        subsets[name] = Subset(str(parts["column"]), tuple(map(str, parts["values"])))
    return FolderLayout(**{**values, "subsets": subsets})


def _fields(kind: type[Any], entry: Any, where: str) -> dict[str, Any]:
    """The entry as keyword arguments of a dataclass, with unknown and missing ones named."""
    if not isinstance(entry, Mapping):
        raise LabelError(f"{where}: expected {{...}}, got {entry!r}")
    known = {item.name: item for item in fields(kind)}
    unknown = sorted(set(entry) - set(known))
    if unknown:
        raise LabelError(f"{where}: unknown field {unknown[0]!r}; the fields are {', '.join(known)}")
    try:
        kind(**entry)
    except TypeError as error:
        raise LabelError(f"{where}: {error}") from error
    return dict(entry)


def _mapping(values: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    value = values.get(key, {})
    if not isinstance(value, Mapping):
        raise LabelError(f"{where}: {key}: expected {{...}}, got {value!r}")
    return value


def _check_count(value: Any, where: str) -> None:
    if value is not None and (not isinstance(value, int) or value < 1):
        raise LabelError(f"{where}: videos: expected a count, got {value!r}")


def _scale(value: Any, where: str) -> Scale:
    try:
        low, high = (float(number) for number in value)
    except (TypeError, ValueError, OverflowError):
        raise LabelError(f"{where}: scale: expected [lowest, highest], got {value!r}") from None
    if not low < high:
        raise LabelError(f"{where}: scale: expected [lowest, highest], got {value!r}")
    return low, high
