"""Check each label by itself and against the others; rejected rows are kept with their reasons."""

import math
import os
import stat
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from vqathinker_verl.data.naming import other_names
from vqathinker_verl.data.paths import inside_root
from vqathinker_verl.data.records import RawLabel, Record, Reject
from vqathinker_verl.data.registry import Registry
from vqathinker_verl.data.scale import map_mos


def check_labels(
    labels: Iterable[RawLabel],
    scale: tuple[float, float],
    video_root: Path | None,
    *,
    allow_missing: bool = False,
    follow_links: bool = False,
    taken: Mapping[str, str] | None = None,
    registry: Registry | None = None,
) -> tuple[list[Record], list[Reject], set[str]]:
    """Check labels: a finite MOS inside the scale, a file inside the video root, no video twice.

    Args:
        labels: Labels of one scale.
        scale: The lowest and highest score that a viewer could give.
        video_root: Folder that the paths are relative to; None: there are no videos (needs `allow_missing`).
        allow_missing: Keep rows whose file does not exist, and count them.
        follow_links: Let symbolic links inside the root lead out of it.
        taken: Paths and ids of videos that other sets hold, and where.
        registry: Datasets whose videos may have other names than the labels state.

    Returns:
        The good rows, the others with their reasons, and the ids of the good ones that have no file.
    """
    records: list[Record] = []
    rejects: list[Reject] = []
    seen = dict(taken or {})
    missing: set[str] = set()
    for label in labels:
        known = (registry or {}).get(label.dataset)
        try:
            record = _checked(label, scale, video_root, follow_links, known.video_names if known is not None else ())
            for key in record.keys:
                if key in seen:
                    raise ValueError(f"the same video as in {seen[key]}")
            is_missing = video_root is None or not os.path.exists(record.path)
            if is_missing and not allow_missing:
                raise ValueError(f"no such file: {record.path}")
            if not is_missing:
                _check_regular_file(record.path)
        except ValueError as error:
            rejects.append(Reject(label, str(error)))
            continue
        seen.update(dict.fromkeys(record.keys, label.where))
        if is_missing:
            missing.add(record.video_id)
        records.append(record)
    return records, rejects, missing


def _checked(
    label: RawLabel, scale: tuple[float, float], video_root: Path | None, follow_links: bool, schemes: Sequence[str]
) -> Record:
    if not label.mos:
        raise ValueError("no MOS; expected a number")
    try:
        mos = float(label.mos)
    except ValueError:
        raise ValueError(f"MOS {label.mos!r} is no number") from None
    if not math.isfinite(mos):
        raise ValueError(f"MOS {label.mos!r} is not finite")
    map_mos(mos, scale)
    video = inside_root(label.video, video_root, follow_links=follow_links)
    path = video if video_root is None else _file_of(video, video_root, follow_links, schemes)
    return Record(label, video, path, mos, scale, label.source or video)


def _file_of(video: str, video_root: Path, follow_links: bool, schemes: Sequence[str]) -> str:
    """The video's file: as stated, else in another Unicode form or naming scheme, if there is one."""
    stated = os.path.join(video_root, *video.split("/"))
    if os.path.exists(stated):
        return stated
    forms = [unicodedata.normalize("NFC", video), unicodedata.normalize("NFD", video)]
    for name in [*forms, *other_names(video, schemes)]:
        path = os.path.join(video_root, *inside_root(name, video_root, follow_links=follow_links).split("/"))
        if os.path.exists(path):
            return path
    return stated


def _check_regular_file(path: str) -> None:
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise ValueError(f"not a regular file: {path}")
    if status.st_size == 0:
        raise ValueError(f"the file is empty: {path}")
