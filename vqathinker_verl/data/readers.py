"""Read label files into `RawLabel`s: one function per format. Only the shape of the file is checked here."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from vqathinker_verl.data.records import LabelError, RawLabel, dataset_of
from vqathinker_verl.data.tables import Row, TableForm, read_lines, read_rows

Rows = list[tuple[str, Row]]


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
        name = dataset_of(where, entry, dataset)
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
    form: TableForm | None = None,
    guesses: list[str] | None = None,
) -> list[RawLabel]:
    """Read a table whose first row names the columns.

    Args:
        path: The file: .csv, .tsv, .mat or .xlsx (see `read_rows`).
        dataset: Name for all rows.
        video_column: Column with the video's path or name.
        mos_column: Column with the MOS.
        video_pattern: The video's path, with columns in braces: "videos/{flickr_id}.mp4". None: the column as it is.
        source_column: Column that is equal for videos that must stay in one split.
        form: How the table is written, with its columns if it has no header.
        guesses: What had to be guessed is appended.

    Raises:
        LabelError: The file cannot be read or lacks a column.
    """
    wanted = (video_column, mos_column, *([source_column] if source_column else []))
    rows = read_rows(path, form=form, wanted=() if video_pattern else wanted, guesses=guesses)
    if form is None or form.columns is None:
        check_header(path, rows, video_column, mos_column)
    return labels_of_rows(
        path, rows, dataset, video_column, mos_column, video_pattern=video_pattern, source_column=source_column
    )


def check_header(path: Path, rows: Rows, video_column: str, mos_column: str) -> None:
    """Refuse a first row of data that was taken for the names of the columns.

    Raises:
        LabelError: A column's name is a number or a video's path; the message proposes --columns.
    """
    if not rows or path.suffix.lower() == ".mat":
        return
    names = list(rows[0][1])
    named = [name for name in names if name in (video_column, mos_column)]
    data = [name for name in names if _is_data(name)]
    if not data or (set(named) == {video_column, mos_column} and not set(named) & set(data)):
        return
    columns = [
        "video" if _is_path(name) else "mos" if number == len(names) - 1 else "_" for number, name in enumerate(names)
    ]
    raise LabelError(
        f'{path}: the first row is data, no header: {", ".join(names)}. Name the columns in order, "_" for one to '
        f"skip: --columns {','.join(columns)}"
    )


def _is_data(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return _is_path(name)
    return True


def _is_path(name: str) -> bool:
    return re.search(r"[^.\s]\.(?!\d+$)[a-z0-9]{2,4}$", name, re.IGNORECASE) is not None or "/" in name


def labels_of_rows(
    path: Path,
    rows: Rows,
    dataset: str,
    video_column: str,
    mos_column: str,
    *,
    video_pattern: str | None = None,
    source_column: str | None = None,
) -> list[RawLabel]:
    """Labels of the rows of a table; arguments and errors as of `read_table`."""
    options = (("--video-column", video_column), ("--mos-column", mos_column), ("--source-column", source_column))
    labels = []
    for where, row in rows:
        for option, column in options:
            if column is None or column in row or (column == video_column and video_pattern is not None):
                continue
            raise LabelError(
                f"{path.name}: no column {column!r}; its columns are {', '.join(map(repr, row))}; pass {option}"
            )
        video = row.get(video_column, "")
        if video_pattern is not None and (video or video_column not in row):
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
