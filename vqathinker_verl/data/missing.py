"""Report everything that a table of labels lacks and the command line must state, with a proposed call to copy."""

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from vqathinker_verl.data.readers import check_header
from vqathinker_verl.data.records import LabelError
from vqathinker_verl.data.registry import Registry, Scale
from vqathinker_verl.data.sources import LabelSource
from vqathinker_verl.data.tables import read_rows
from vqathinker_verl.frames.suffixes import VIDEO_SUFFIXES

# Scales that people rate on; the first that holds all MOS is proposed.
COMMON_SCALES: tuple[Scale, ...] = ((0, 1), (1, 5), (0, 5), (0, 10), (0, 100))
MOS_NAMES = re.compile(r"(^|_)(mos|score|rating|quality|opinion)s?($|_)", re.IGNORECASE)
VIDEO_NAMES = re.compile(r"(^|_)(video|file|filename|path|clip|name)s?($|_)", re.IGNORECASE)
SEEN_ROWS = 200  # that a guess looks at


def check_complete(source: LabelSource, registry: Registry, output: Path, *, allow_missing: bool) -> None:
    """Check that a table's columns, dataset, video root and scale are given or known.

    Args:
        source: The labels, in the format "table".
        registry: The datasets whose scale is known.
        output: For the command line to copy.
        allow_missing: The videos need not be there, nor their folder.

    Raises:
        LabelError: Something is not known; the message names all that is missing, and a call that may be right.
    """
    read = read_rows(source.labels, form=source.form, wanted=_wanted(source))
    if source.columns is None:
        check_header(source.labels, read, *source.names)
    rows = [row for _, row in read][:SEEN_ROWS]
    if not rows:
        return  # reported where the labels are read
    columns = list(rows[0])
    video_column, mos_column = source.names
    missing = {}
    if video_column not in columns and source.video_pattern is None:
        video_column = _column(rows, VIDEO_NAMES, _names_video) or "COLUMN"
        missing["--video-column"] = video_column
    if mos_column not in columns:
        mos_column = _column(rows, MOS_NAMES, _is_number, but=video_column) or "COLUMN"
        missing["--mos-column"] = mos_column
    if source.dataset is None:
        missing["--dataset"] = source.labels.stem
    if source.video_root is None and not allow_missing and not default_root(replace(source, video_column=video_column)):
        missing["--video-root"] = "FOLDER"
    if source.scale is None and source.dataset not in registry:
        values = [float(row[mos_column]) for row in rows if _is_number(row.get(mos_column, ""))]
        scale = proposed_scale(min(values), max(values)) if values else None
        missing["--scale"] = f"{scale[0]:g} {scale[1]:g}" if scale else "LOWEST HIGHEST"
    if not missing:
        return
    given = {
        "--video-column": source.names[0] if source.names[0] in columns else None,
        "--mos-column": source.names[1] if source.names[1] in columns else None,
        "--columns": source.columns,
        "--delimiter": source.delimiter,
        "--decimal": source.decimal,
        "--encoding": source.encoding,
        "--sheet": source.sheet,
        "--video-pattern": source.video_pattern,
        "--dataset": source.dataset,
        "--video-root": source.video_root,
        "--scale": source.scale and f"{source.scale[0]:g} {source.scale[1]:g}",
    }
    defaults = {"--video-column": "video", "--mos-column": "mos"}
    words = {name: value for name, value in {**given, **missing}.items() if value is not None}
    options = " ".join(
        f"{name} {value if name == '--scale' or value == 'FOLDER' else shlex.quote(str(value))}"
        for name, value in words.items()
        if str(value) != defaults.get(name)
    )
    raise LabelError(
        f"{source.labels}: {', '.join(missing)} needed (columns: {', '.join(columns)}). Check and complete this call:\n"
        f"  vqathinker prepare {shlex.quote(str(source.labels))} {options} --output {shlex.quote(str(output))}"
    )


def _wanted(source: LabelSource) -> tuple[str, ...]:
    return () if source.video_pattern else source.names


def default_root(source: LabelSource) -> Path | None:
    """The folder of the label file, if one of the first rows' videos lies there."""
    folder = source.labels.parent
    for _, row in read_rows(source.labels, form=source.form, wanted=_wanted(source))[:SEEN_ROWS]:
        try:
            name = source.video_pattern.format_map(row) if source.video_pattern else row.get(source.names[0], "")
            if name and (folder / name).is_file():
                return folder
        except (KeyError, IndexError, ValueError, OSError):
            continue
    return None


def proposed_scale(lowest: float, highest: float) -> Scale | None:
    """The narrowest common scale that holds MOS from `lowest` to `highest`; None if there is none.

    >>> proposed_scale(0.96, 9.83), proposed_scale(1.2, 4.8), proposed_scale(3, 300)
    ((0, 10), (1, 5), None)
    """
    return next((scale for scale in COMMON_SCALES if scale[0] <= lowest and highest <= scale[1]), None)


def _column(
    rows: Sequence[Mapping[str, str]], names: re.Pattern[str], fits: Callable[[str], bool], but: str = ""
) -> str | None:
    """Return the column whose name and values fit; if only one column has fitting values, its name need not fit."""
    fitting = [name for name in rows[0] if name != but and all(fits(row[name]) for row in rows if row[name])]
    named = [name for name in fitting if names.search(name)]
    return named[0] if named else fitting[0] if len(fitting) == 1 else None


def _names_video(value: str) -> bool:
    return Path(value).suffix.lower() in VIDEO_SUFFIXES


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True
