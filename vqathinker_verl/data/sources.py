"""One set of labels as the user describes it: its place, format and scale."""

import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path

from vqathinker_verl.data.folders import holds_labels_of, read_folder
from vqathinker_verl.data.json_fields import CHECKED, read_json
from vqathinker_verl.data.objects import read_fields
from vqathinker_verl.data.parquet_labels import read_parquet
from vqathinker_verl.data.readers import (
    labels_of_rows,
    read_annotations,
    read_conversations,
    read_table,
    with_sources,
)
from vqathinker_verl.data.records import LabelError, RawLabel
from vqathinker_verl.data.registry import AnnotationFile, Registry, Scale, dataset_of_annotations
from vqathinker_verl.data.tables import TableForm
from vqathinker_verl.data.text_table import TextForm
from vqathinker_verl.prompts import SCORE_RANGE

logger = logging.getLogger(__name__)

FORMATS = ("annotations", "conversations", "json", "table", "parquet", "folder")
_FORMAT_OF_SUFFIX = {
    ".json": "json",
    ".jsonl": "json",
    ".csv": "table",
    ".tsv": "table",
    ".txt": "table",
    ".mat": "table",
    ".xlsx": "table",
    ".parquet": "parquet",
}


@dataclass(frozen=True)
class LabelSource:
    """One set of labels; the fields are the options of `vqathinker prepare` of the same names.

    Args:
        labels: Label file, or the folder of a dataset as its authors publish it.
        dataset: Name of the dataset, which becomes verl's data_source; None: as the registry or the rows say.
        format: One of FORMATS; None: by the file's suffix.
        scale: The lowest and highest MOS possible; None: as the registry says.
        subset: Folder only: the part of the dataset, as the registry names it.
        video_root: Folder that the videos' paths are relative to; None: there are no videos.
        video_column: Table: the column with the video (None: "video"); JSON: the field.
        mos_column: Table: the column with the MOS (None: "mos"); JSON: the field.
        video_pattern: Table only: the video's path with columns in braces.
        source_column: Table only: the column that is equal for videos that must stay in one split.
        source_pattern: Regular expression whose first group in the path is that source.
        follow_links: Let symbolic links inside the video root lead out of it.
        columns: Table without a header: names of its columns in order, with commas; "_" skips one.
        delimiter: Text table: what is between its cells; None: guessed, as are the next two.
        decimal: Text table: its decimal sign, "." or ",".
        encoding: Text table: its encoding.
        sheet: Workbook: the sheet; None: the first.
        levels: JSON: read the words bad to excellent as 1 to 5.
        lower_is_better: Direction of the scale, as of DMOS; None: as the registry says, else more is better.
    """

    __pydantic_config__ = CHECKED

    labels: Path
    dataset: str | None = None
    format: str | None = None
    subset: str | None = None
    scale: tuple[float, float] | None = None
    video_root: Path | None = None
    video_column: str | None = None
    mos_column: str | None = None
    video_pattern: str | None = None
    source_column: str | None = None
    source_pattern: str | None = None
    follow_links: bool = False
    columns: str | None = None
    delimiter: str | None = None
    decimal: str | None = None
    encoding: str | None = None
    sheet: str | None = None
    levels: bool = False
    lower_is_better: bool | None = None

    @property
    def names(self) -> tuple[str, str]:
        """Columns of a table with the video and the MOS."""
        return self.video_column or "video", self.mos_column or "mos"

    @property
    def form(self) -> TableForm:
        """How a table is written, as far as given."""
        columns = None if self.columns is None else tuple(name.strip() for name in self.columns.split(","))
        return TableForm(columns, TextForm(self.delimiter, self.decimal, self.encoding), self.sheet)


def read_sets(path: Path) -> list[LabelSource]:
    """Read a JSON list of label sources; relative paths in it start at the file's folder.

    Raises:
        LabelError: The file is not such a list, or names an unknown field.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LabelError(f"{path}: cannot be read ({error})") from error
    entries = read_json(list[LabelSource], text, path.name, number_items="set")
    if not entries:
        raise LabelError(f"{path}: expected a list of label sets")
    return [_in_folder(entry, path.parent) for entry in entries]


def _in_folder(source: LabelSource, folder: Path) -> LabelSource:
    root = None if source.video_root is None else folder / source.video_root
    return replace(source, labels=folder / source.labels, video_root=root)


def load(
    source: LabelSource, registry: Registry, *, guesses: list[str] | None = None, video_dir: Path | None = None
) -> tuple[list[RawLabel], Scale]:
    """Read a set's labels and return them with their scale.

    Args:
        source: The set.
        registry: The known datasets.
        guesses: What had to be guessed about the file is appended.
        video_dir: Folder for videos that a parquet file stores as bytes.

    Raises:
        LabelError: The labels cannot be read, or their dataset or scale is not known.
    """
    if not os.path.exists(source.labels):  # unlike Path.exists, also for what can be no path
        raise LabelError(f"{source.labels}: no such file or folder")
    kind = format_of(source, registry)
    if kind == "parquet":
        labels, scale = _load_parquet(source, registry, video_dir)
    elif kind == "table":
        labels, scale = _load_table(source, registry, guesses)
    else:
        labels, scale = _READERS[kind](source, registry)
    scale = source.scale or scale
    if scale is None:
        raise LabelError(f"{source.labels}: no MOS scale is known for it; pass --scale LOWEST HIGHEST")
    if not labels:
        raise LabelError(f"{source.labels}: no labels in the file")
    if _lower_is_better(source, registry, labels[0].dataset):
        labels = [replace(label, lower_is_better=True) for label in labels]
    return (with_sources(labels, source.source_pattern) if source.source_pattern else labels), scale


def _lower_is_better(source: LabelSource, registry: Registry, dataset: str) -> bool:
    """The direction as given or registered; a name with "dmos" in it without either is an error."""
    if source.lower_is_better is not None:
        return source.lower_is_better
    if dataset in registry:
        return registry[dataset].lower_is_better
    for name in (source.mos_column or "", source.labels.name):
        if "dmos" in name.lower():
            raise LabelError(
                f"{source.labels}: {name!r} says DMOS, where less is often better; pass --lower-is-better, or "
                "--higher-is-better if more is better"
            )
    return False


def format_of(source: LabelSource, registry: Registry) -> str:
    """One of FORMATS, as given or by the file's suffix."""
    if source.format is not None:
        if source.format not in FORMATS:
            raise LabelError(f"{source.labels}: format {source.format!r}; expected {' or '.join(FORMATS)}")
        return source.format
    if source.labels.is_dir():
        # The folder of a data set of Hugging Face holds parquet shards, and no label file that the registry names;
        # parquet files in a registered dataset's folder may be what `prepare` wrote there.
        known = registry.get(source.dataset or "")
        if known is not None and holds_labels_of(source.labels, known):
            return "folder"
        return "parquet" if next(source.labels.rglob("*.parquet"), None) else "folder"
    try:
        return _FORMAT_OF_SUFFIX[source.labels.suffix.lower()]
    except KeyError:
        raise LabelError(f"{source.labels}: unknown suffix; pass --format {' or '.join(FORMATS)}") from None


def _load_annotations(source: LabelSource, registry: Registry) -> tuple[list[RawLabel], Scale | None]:
    known = dataset_of_annotations(registry, source.labels.name)
    name = source.dataset or (known[0].name if known else None)
    if name is None:
        raise LabelError(f"{source.labels}: not a file the registry knows; pass --dataset NAME --scale LOWEST HIGHEST")
    labels = read_annotations(source.labels, name)
    if known is None:
        return labels, _registered_scale(name, registry)
    return labels, _scale_of_known(known[1], source.labels, len(labels))


def _scale_of_known(file: AnnotationFile, path: Path, count: int) -> Scale:
    """The scale of a known file, which holds whatever the user calls the dataset; another number of labels is said."""
    if file.videos is not None and count != file.videos:
        logger.warning("%s: %d labels; the file is known to hold %d", path, count, file.videos)
    return file.scale


def _load_conversations(source: LabelSource, _registry: Registry) -> tuple[list[RawLabel], Scale | None]:
    # The form in which the release keeps MOS that are already mapped.
    return read_conversations(source.labels, source.dataset), SCORE_RANGE


def _load_json(source: LabelSource, registry: Registry) -> tuple[list[RawLabel], Scale | None]:
    known = dataset_of_annotations(registry, source.labels.name)
    name = source.dataset or (known[0].name if known else None)
    labels, on_answers = read_fields(
        source.labels,
        name,
        source.video_column,
        source.mos_column,
        source_column=source.source_column,
        levels=source.levels,
    )
    if known is not None:
        return labels, _scale_of_known(known[1], source.labels, len(labels))
    if on_answers:  # MOS that are already mapped
        return labels, SCORE_RANGE
    return labels, _registered_scale(name, registry) if name else None


def _load_table(
    source: LabelSource, registry: Registry, guesses: list[str] | None
) -> tuple[list[RawLabel], Scale | None]:
    name = _required_dataset(source)
    labels = read_table(
        source.labels,
        name,
        *source.names,
        video_pattern=source.video_pattern,
        source_column=source.source_column,
        form=source.form,
        guesses=guesses,
    )
    return labels, _registered_scale(name, registry)


def _load_parquet(
    source: LabelSource, registry: Registry, video_dir: Path | None
) -> tuple[list[RawLabel], Scale | None]:
    name = _required_dataset(source)
    columns = [*source.names, *([source.source_column] if source.source_column else [])]
    rows = read_parquet(source.labels, tuple(columns), video_dir)
    labels = labels_of_rows(source.labels, rows, name, *source.names, source_column=source.source_column)
    return labels, _registered_scale(name, registry)


def _load_folder(source: LabelSource, registry: Registry) -> tuple[list[RawLabel], Scale | None]:
    name = _required_dataset(source)
    if name not in registry:
        raise LabelError(f"{name}: not a known dataset; expected {', '.join(registry)}, or one of --registry FILE")
    return read_folder(source.labels, registry[name], source.subset), registry[name].scale


_READERS = {
    "annotations": _load_annotations,
    "conversations": _load_conversations,
    "json": _load_json,
    "folder": _load_folder,
}


def _required_dataset(source: LabelSource) -> str:
    if source.dataset is None:
        raise LabelError(f"{source.labels}: no dataset name; pass --dataset NAME")
    return source.dataset


def _registered_scale(name: str, registry: Registry) -> Scale | None:
    return registry[name].scale if name in registry else None
