"""JSON labels: a list of objects, an object that holds one list, or one object per line; fields by dotted path."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vqathinker_verl.data.records import LabelError, RawLabel, dataset_of
from vqathinker_verl.data.tables import read_lines

LEVELS = {"bad": 1, "poor": 2, "fair": 3, "good": 4, "excellent": 5}
ANSWER = "conversations"  # stands for the model's turn of the conversation
ROLES = ("gpt", "ai", "assistant")
# (video, MOS) of the known forms, the first that an object has is read: the release's annotations, Q-Align,
# FineVQ, chat messages, and the conversations of the release and of VisualQuality-R1.
FORMS = (
    ("image_id", "score"),
    ("image", "gt_score"),
    ("video", "mos"),
    ("videos", "solution"),
    ("image", ANSWER),
    ("video", ANSWER),
    ("videos", ANSWER),
)
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)


def read_objects(path: Path) -> list[tuple[str, Mapping[str, Any]]]:
    """Objects of a JSON or JSONL file, each with its place.

    Raises:
        LabelError: The file is neither form.
    """
    text = "".join(read_lines(path))
    try:
        content = json.loads(text)
    except RecursionError as error:
        raise LabelError(f"{path}: cannot be read as JSON ({error})") from error
    except ValueError as error:
        if path.suffix.lower() == ".json" and not text.lstrip().startswith("{"):
            raise LabelError(f"{path}: cannot be read as JSON ({error})") from error
        entries = _lines(path, text)
    else:
        entries = [(f"{path.name}: entry {number}", entry) for number, entry in enumerate(_list(path, content), 1)]
    for where, entry in entries:
        if not isinstance(entry, Mapping):
            raise LabelError(f"{where}: expected a JSON object, got {entry!r:.80}")
    return entries


def _lines(path: Path, text: str) -> list[tuple[str, Any]]:
    entries = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                entries.append((f"{path.name}: line {number}", json.loads(line)))
            except (ValueError, RecursionError) as error:
                raise LabelError(f"{path.name}: line {number}: expected a JSON object ({error})") from error
    return entries


def _list(path: Path, content: Any) -> list[Any]:
    if isinstance(content, list):
        return content
    if isinstance(content, Mapping):
        lists = [value for value in content.values() if isinstance(value, list) and value and _all_objects(value)]
        if len(lists) == 1 and not any(_form(content, levels=True)):
            return lists[0]
        if _field(content, FORMS[0][0]) is not None or any(_form(content, levels=True)):
            return [content]
        names = ", ".join(map(str, content))
        raise LabelError(
            f"{path}: expected a list of objects, or an object that holds one; got the fields {names:.200}"
        )
    raise LabelError(f"{path}: expected a list of objects, got {type(content).__name__}")


def _all_objects(values: list[Any]) -> bool:
    return all(isinstance(value, Mapping) for value in values)


def read_fields(
    path: Path,
    dataset: str | None,
    video_column: str | None = None,
    mos_column: str | None = None,
    *,
    source_column: str | None = None,
    levels: bool = False,
) -> tuple[list[RawLabel], bool]:
    """Read labels from the fields asked for, or those of a known form.

    Args:
        path: The file.
        dataset: Name for all rows; None: each row's `dataset_name`.
        video_column: Field with the video; a dotted path reaches into objects, a list gives its first item.
        mos_column: Field with the MOS.
        source_column: Field that is equal for videos that must stay in one split.
        levels: Read the words bad, poor, fair, good, excellent as 1 to 5 where there is no number.

    Returns:
        The labels, and whether all MOS are answers of conversations or levels, which lie on [1, 5].

    Raises:
        LabelError: The file or a row is not of a known form and no options say where its fields are.
    """
    labels = []
    on_answers = True
    for where, entry in read_objects(path):
        known_video, known_mos = _form(entry, levels=levels)
        video_field, mos_field = video_column or known_video, mos_column or known_mos
        if video_field is None or mos_field is None:
            raise LabelError(_unknown(where, entry, levels))
        for option, field in (("--video-column", video_column), ("--mos-column", mos_column)):
            if field is not None and not _has(entry, field):
                raise LabelError(f"{where}: no field {field!r} ({option}); its fields are {', '.join(map(str, entry))}")
        name = dataset_of(where, entry, dataset)
        videos = entry.get(video_field)
        if mos_field == ANSWER and video_column is None and isinstance(videos, list) and len(videos) > 1:
            # One answer about several videos is a comparison more often than a MOS.
            raise LabelError(
                f"{where}: {len(videos)} videos in {video_field!r}; expected one for one answer; "
                f"--video-column {video_field} reads the first"
            )
        value = _mos(entry, mos_field)
        word = _level(value)
        on_answers &= mos_field == ANSWER or (levels and word is not None)
        mos = str(word) if levels and word is not None else _text(value)
        source = _text(_field(entry, source_column)) if source_column else None
        labels.append(RawLabel(where, _text(_field(entry, video_field)), mos, name, source or None))
    return labels, on_answers


def _form(entry: Mapping[str, Any], *, levels: bool) -> tuple[str | None, str | None]:
    """The fields of the first known form whose MOS is a number; of a form with words only if `levels`."""
    forms = [(video, mos) for video, mos in FORMS if _has(entry, video) and _has(entry, mos)]
    for video, mos in forms:
        if _is_number(_mos(entry, mos)):
            return video, mos
    if levels:
        for video, mos in forms:
            if _level(_mos(entry, mos)) is not None:
                return video, mos
    # If a known form has invalid MOS values, its rows are rejected one by one; the file is not refused.
    return next(((video, mos) for video, mos in forms if mos != ANSWER), (None, None))


def _unknown(where: str, entry: Mapping[str, Any], levels: bool) -> str:
    words = "" if levels else "; --levels reads bad to excellent as 1 to 5"
    return (
        f"{where}: not a known form; name its fields with --video-column and --mos-column{words} "
        f"(fields: {', '.join(map(str, entry)):.200})"
    )


def _has(entry: Mapping[str, Any], path: str) -> bool:
    return path in entry or ("." in path and _field(entry, path) is not None)


def _field(entry: Any, path: str) -> Any:
    """The value at a dotted path; a list gives its first item, also on the way, and {"path": ...} its path."""
    value = entry
    for key in [path] if isinstance(entry, Mapping) and path in entry else path.split("."):
        value = _first(value)
        value = value.get(key) if isinstance(value, Mapping) else None
    return _first(value)


def _first(value: Any) -> Any:
    while isinstance(value, list):
        value = value[0] if value else None
    return value


def _mos(entry: Mapping[str, Any], field: str) -> Any:
    if field != ANSWER:
        return _field(entry, field)
    turns = entry.get(ANSWER)
    turns = turns if isinstance(turns, list) else []
    answers = [turn.get("value") for turn in turns if isinstance(turn, Mapping) and turn.get("from") in ROLES]
    return answers[0] if len(answers) == 1 else None


def _is_number(value: Any) -> bool:
    if isinstance(value, bool):
        return False
    return isinstance(value, int | float) or (isinstance(value, str) and NUMBER.fullmatch(_text(value)) is not None)


def _level(value: Any) -> int | None:
    return LEVELS.get(_text(value).rstrip(".").lower()) if isinstance(value, str) else None


def _text(value: Any) -> str:
    if value is None or isinstance(value, Mapping):
        value = value.get("path") or value.get("video") if isinstance(value, Mapping) else None
    text = "" if value is None else str(value).strip()
    return re.sub(r"^<answer>\s*(.*?)\s*</answer>$", r"\1", text)
