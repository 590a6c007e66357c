"""Label files in, `RawLabel`s out: one function a format. Nothing is checked here but the shape of the file."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from vqathinker_verl.data.records import LabelError, RawLabel
from vqathinker_verl.data.tables import read_lines, read_rows


def read_annotations(path: Path, dataset: str) -> list[RawLabel]:
    """Read `{"annotations": [{"image_id": "x.mp4", "score": "62.4"}]}`, the form of the ten benchmark files.

    Raises:
        LabelError: The file is not of that form.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise LabelError(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(content, dict) or not isinstance(content.get("annotations"), list):
        raise LabelError(f'{path}: expected {{"annotations": [...]}}, got {type(content).__name__} without that list')
    labels = []
    for number, entry in enumerate(content["annotations"], start=1):
        where = f"{path.name}: annotation {number}"
        if not isinstance(entry, dict):
            raise LabelError(f'{where}: expected {{"image_id": ..., "score": ...}}, got {entry!r}')
        labels.append(RawLabel(where, _text(entry.get("image_id")), _text(entry.get("score")), dataset))
    return labels


def read_conversations(path: Path, dataset: str | None) -> list[RawLabel]:
    """Read JSON lines of conversations: the video is in `image`, the MOS is the value of the `gpt` turn.

    Args:
        path: The file.
        dataset: Name for all rows; None: each row's `dataset_name`.

    Raises:
        LabelError: A line is not of that form.
    """
    labels = []
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        where = f"{path.name}: line {number}"
        try:
            entry = json.loads(line)
            videos = entry["image"] if isinstance(entry["image"], list) else [entry["image"]]
            answers = [turn["value"] for turn in entry["conversations"] if turn["from"] == "gpt"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise LabelError(
                f'{where}: expected {{"image": [...], "conversations": [...]}} ({type(error).__name__}: {error})'
            ) from error
        if len(videos) != 1 or len(answers) != 1:
            raise LabelError(f"{where}: expected one video and one gpt turn, got {len(videos)} and {len(answers)}")
        name = dataset or entry.get("dataset_name")
        if not name:
            raise LabelError(f"{where}: no dataset_name; name the dataset with --dataset")
        if not isinstance(name, str) or not name.isprintable():
            raise LabelError(f"{where}: dataset_name: expected printable text, got {name!r:.80}")
        labels.append(RawLabel(where, _text(videos[0]), _text(answers[0]), name))
    return labels


def read_table(
    path: Path,
    dataset: str,
    video_column: str,
    mos_column: str,
    *,
    video_pattern: str | None = None,
    source_column: str | None = None,
) -> list[RawLabel]:
    """Read a table whose first row names the columns.

    Args:
        path: The file: .csv, .tsv, .mat or .xlsx (see `read_rows`).
        dataset: Name for all rows.
        video_column: Column with the video's path or name.
        mos_column: Column with the MOS.
        video_pattern: The video's path, with columns in braces: "videos/{flickr_id}.mp4". None: the column as it is.
        source_column: Column that is equal for videos that must stay in one split.

    Raises:
        LabelError: The file cannot be read or lacks a column.
    """
    labels = []
    for where, row in read_rows(path):
        for column in (video_column, mos_column, source_column):
            if column is not None and column not in row:
                raise LabelError(f"{path.name}: no column {column!r}; its columns are {', '.join(map(repr, row))}")
        video = row[video_column]
        if video_pattern is not None and video:
            try:
                video = video_pattern.format_map(row)
            except (KeyError, IndexError, ValueError) as error:
                raise LabelError(f"{path.name}: the video pattern {video_pattern!r} does not fit: {error!r}") from error
        source = None if source_column is None else row[source_column]
        labels.append(RawLabel(where, video, row[mos_column], dataset, source or None))
    return labels


def with_sources(labels: list[RawLabel], pattern: str) -> list[RawLabel]:
    """Set each label's source to the first group that the regular expression `pattern` finds in its video's path.

    Raises:
        LabelError: The expression is wrong, has no group, or does not fit a path.
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise LabelError(f"source pattern {pattern!r} is no regular expression: {error}") from error
    if expression.groups < 1:
        raise LabelError(f"source pattern {pattern!r}: expected a group, as in '([^_]+)_'")
    sourced = []
    for label in labels:
        match = expression.search(label.video)
        if match is None:
            raise LabelError(f"{label.where}: source pattern {pattern!r} does not fit {label.video!r}")
        sourced.append(replace(label, source=match.group(1)))
    return sourced


def _text(value: Any) -> str:
    return "" if value is None else str(value).strip()
