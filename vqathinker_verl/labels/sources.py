"""One set of labels as a user names it: where it is, in which format, on which scale."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from vqathinker_verl.labels.readers import read_annotations, read_conversations, read_table, with_sources
from vqathinker_verl.labels.records import LabelError, RawLabel
from vqathinker_verl.prompts import SCORE_RANGE

FORMATS = ("annotations", "conversations", "table")
_FORMAT_OF_SUFFIX = {".json": "annotations", ".jsonl": "conversations", ".csv": "table", ".tsv": "table"}


@dataclass(frozen=True)
class LabelSource:
    """One set of labels; the fields are the options of `vqathinker prepare` of the same names.

    Args:
        labels: Label file.
        dataset: Name of the dataset, which becomes verl's data_source.
        format: One of FORMATS; None: by the file's suffix.
        scale: The lowest and highest score that a viewer could give.
        video_root: Folder that the videos' paths are relative to; None: there are no videos.
        video_column: Table only: the column with the video.
        mos_column: Table only: the column with the MOS.
        video_pattern: Table only: the video's path with columns in braces.
        source_column: Table only: the column that is equal for videos that must stay in one split.
        source_pattern: Regular expression whose first group in the path is that source.
    """

    labels: Path
    dataset: str | None = None
    format: str | None = None
    scale: tuple[float, float] | None = None
    video_root: Path | None = None
    video_column: str = "video"
    mos_column: str = "mos"
    video_pattern: str | None = None
    source_column: str | None = None
    source_pattern: str | None = None


def read_sets(path: Path) -> list[LabelSource]:
    """Read a JSON list of label sources; relative paths in it start at the file's folder.

    Raises:
        LabelError: The file is not such a list, or names an unknown field.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LabelError(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(entries, list) or not entries:
        raise LabelError(f"{path}: expected a list of label sets")
    return [_source_of(entry, f"{path.name}: set {number}", path.parent) for number, entry in enumerate(entries, 1)]


def _source_of(entry: Any, where: str, folder: Path) -> LabelSource:
    known = [field.name for field in fields(LabelSource)]
    if not isinstance(entry, Mapping) or "labels" not in entry:
        raise LabelError(f'{where}: expected {{"labels": ..., ...}}, got {entry!r}')
    unknown = sorted(set(entry) - set(known))
    if unknown:
        raise LabelError(f"{where}: unknown field {unknown[0]!r}; the fields are {', '.join(known)}")
    values: dict[str, Any] = dict(entry)
    for name in ("labels", "video_root"):
        if values.get(name) is not None:
            values[name] = folder / values[name]
    if values.get("scale") is not None:
        try:
            low, high = values["scale"]
            values["scale"] = (float(low), float(high))
        except (TypeError, ValueError):
            raise LabelError(f"{where}: scale: expected [lowest, highest], got {entry['scale']!r}") from None
    return LabelSource(**values)


def load(source: LabelSource) -> tuple[list[RawLabel], tuple[float, float]]:
    """Read a set's labels and return them with their scale.

    Raises:
        LabelError: The file cannot be read, or its dataset or scale is not known.
    """
    if not source.labels.exists():
        raise LabelError(f"{source.labels}: no such file")
    file_format = source.format or _FORMAT_OF_SUFFIX.get(source.labels.suffix.lower())
    if file_format not in FORMATS:
        raise LabelError(f"{source.labels}: the suffix tells no format; say --format {' | '.join(FORMATS)}")
    scale = source.scale
    if file_format == "conversations":
        # The form in which the release keeps MOS that are already mapped.
        scale = scale or SCORE_RANGE
        labels = read_conversations(source.labels, source.dataset)
    else:
        if source.dataset is None:
            raise LabelError(f"{source.labels}: no dataset name; say --dataset NAME")
        if file_format == "annotations":
            labels = read_annotations(source.labels, source.dataset)
        else:
            labels = read_table(
                source.labels,
                source.dataset,
                source.video_column,
                source.mos_column,
                video_pattern=source.video_pattern,
                source_column=source.source_column,
            )
    if scale is None:
        raise LabelError(f"{source.labels}: no MOS scale known for {source.dataset}; say --scale LOWEST HIGHEST")
    if not labels:
        raise LabelError(f"{source.labels}: no labels in the file")
    return (with_sources(labels, source.source_pattern) if source.source_pattern else labels), scale
