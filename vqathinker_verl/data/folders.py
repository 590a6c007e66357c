"""A dataset's folder as its authors publish it: the label file found by name, the videos found by name."""

import os
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from vqathinker_verl.data.naming import normal_name, other_names, without_suffix
from vqathinker_verl.data.records import LabelError, RawLabel
from vqathinker_verl.data.registry import Dataset, FolderLayout
from vqathinker_verl.data.tables import Row, read_rows
from vqathinker_verl.frames.suffixes import VIDEO_SUFFIXES


def read_folder(folder: Path, dataset: Dataset, subset: str | None = None) -> list[RawLabel]:
    """Read a dataset from its published folder.

    A label whose video is not in the folder keeps its name with the suffix .mp4, and the checks report it missing.

    Args:
        folder: The folder; also the video root.
        dataset: The dataset, with a folder layout.
        subset: Part of the dataset, as its layout names it; None: all of it.

    Raises:
        LabelError: The layout is not known, or the folder does not fit it.
    """
    layout = dataset.folder
    if layout is None:
        raise LabelError(f"{dataset.name}: no folder layout known; add one with --registry, or pass the label file")
    files = _files_under(folder)
    label_file = folder / _label_file(files, folder, dataset, layout)
    rows = read_rows(label_file, header=layout.header, transposed=layout.transposed, sheet=layout.sheet)
    if not rows:
        raise LabelError(f"{label_file}: no labels in the file")
    columns = list(rows[0][1])
    video_column = _column(columns, layout.video, label_file)
    mos_column = _column(columns, layout.mos, label_file)
    videos = _videos_by_stem(files)
    return [
        RawLabel(where, _find_video(row, video_column, dataset, layout, videos), row[mos_column], dataset.name)
        for where, row in _rows_of(rows, subset, layout, label_file)
    ]


def left_out(folder: Path, labels: Sequence[RawLabel]) -> tuple[list[str], list[str]]:
    """Files of a dataset's folder that no label names: videos, and files whose suffix is not a video's.

    Label tables are among the latter; hidden files are left out of both.
    """
    named = {normal_name(label.video) for label in labels}
    files = [file for file in _files_under(folder) if not Path(file).name.startswith(".")]
    videos = [file for file in files if Path(file).suffix.lower() in VIDEO_SUFFIXES]
    others = [file for file in files if Path(file).suffix.lower() not in VIDEO_SUFFIXES]
    return [file for file in videos if normal_name(file) not in named], others


def holds_labels_of(folder: Path, dataset: Dataset) -> bool:
    """Whether a label file of a dataset's layout is somewhere in a folder."""
    patterns = dataset.folder.labels if dataset.folder is not None else ()
    return (
        any(Path(file).match(pattern) for file in _files_under(folder) for pattern in patterns) if patterns else False
    )


def _files_under(folder: Path) -> list[str]:
    """Paths of all files from here, links followed; a folder that links lead back to is entered once."""
    files = []
    entered = set()
    for root, folders, names in os.walk(folder, followlinks=True):
        status = os.stat(root)
        if (status.st_dev, status.st_ino) in entered:
            folders.clear()
            continue
        entered.add((status.st_dev, status.st_ino))
        folders.sort()  # which of a folder's names is taken does not depend on the disk
        files += [Path(root, name).relative_to(folder).as_posix() for name in names]
    return sorted(files)


def _label_file(files: list[str], folder: Path, dataset: Dataset, layout: FolderLayout) -> str:
    for pattern in layout.labels:
        found = [file for file in files if Path(file).match(pattern)]
        if len(found) == 1:
            return found[0]
        if found:
            raise LabelError(f"{folder}: {len(found)} files fit {pattern}: {', '.join(found[:3])}; keep one of them")
    raise LabelError(f"{folder}: no label file of {dataset.name}; expected one called {' or '.join(layout.labels)}")


def _column(columns: list[str], candidates: tuple[str, ...], label_file: Path) -> str:
    for candidate in candidates:
        if candidate in columns:
            return candidate
    raise LabelError(f"{label_file}: expected a column {' or '.join(candidates)}; its columns are {', '.join(columns)}")


def _rows_of(
    rows: list[tuple[str, Row]], subset: str | None, layout: FolderLayout, label_file: Path
) -> list[tuple[str, Row]]:
    if subset is None:
        # A layout with one part is that part.
        if len(layout.subsets) != 1:
            return rows
        (subset,) = layout.subsets
    if subset not in layout.subsets:
        raise LabelError(f"{label_file}: no subset {subset!r}; expected {' or '.join(layout.subsets) or 'none'}")
    part = layout.subsets[subset]
    if part.column not in rows[0][1]:
        raise LabelError(f"{label_file}: no column {part.column!r}, which marks the subset {subset}")
    return [(where, row) for where, row in rows if row[part.column] in part.values]


def _videos_by_stem(files: list[str]) -> dict[str, list[str]]:
    videos = defaultdict(list)
    for file in files:
        if Path(file).suffix.lower() in VIDEO_SUFFIXES:
            videos[_stem(file).rpartition("/")[2]].append(file)
    return videos


def _stem(file: str) -> str:
    return without_suffix(unicodedata.normalize("NFC", file))


def _find_video(
    row: Row, video_column: str, dataset: Dataset, layout: FolderLayout, videos: dict[str, list[str]]
) -> str:
    if not row[video_column]:
        return ""
    values = {key: layout.replace.get(key, {}).get(value, value) for key, value in row.items()}
    values["video"] = row[video_column]
    values["basename"] = normal_name(row[video_column]).rpartition("/")[2]
    try:
        names = [without_suffix(normal_name(pattern.format_map(values))) for pattern in layout.names]
    except (KeyError, IndexError, ValueError) as error:
        raise LabelError(f"names {list(layout.names)} do not fit the columns {list(row)}: {error!r}") from error
    others = [without_suffix(other) for name in names for other in other_names(f"{name}.mp4", dataset.video_names)]
    for name in [*names, *others]:
        found = [file for file in videos.get(name.rpartition("/")[2], ()) if f"/{_stem(file)}".endswith(f"/{name}")]
        if len(found) > 1:
            raise LabelError(f"two videos are called {name}: {found[0]} and {found[1]}; keep one of them")
        if found:
            return found[0]
    return f"{names[0]}.mp4"
