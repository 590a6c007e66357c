"""The records that the steps of `vqathinker prepare` pass to each other."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vqathinker_verl.data.scale import map_mos
from vqathinker_verl.frames import VideoInfo


class LabelError(ValueError):
    """The labels cannot be prepared at all; the message names the file or option, what was expected and what to do."""


@dataclass(frozen=True)
class RawLabel:
    """One label as its file states it, unchecked.

    Args:
        where: File and row, for messages.
        video: The video's path as stated, relative to the video root.
        mos: The MOS as stated.
        dataset: The dataset's name, which becomes verl's data_source.
        source: Videos of one source (a scene, a recording) are never split; None: each video is its own.
        lower_is_better: Less is better, as of DMOS.
    """

    where: str
    video: str
    mos: str
    dataset: str
    source: str | None = None
    lower_is_better: bool = False


def dataset_of(where: str, entry: Mapping[str, Any], dataset: str | None) -> str:
    """Return the dataset's name for one JSON row: the one given for all rows, else the row's `dataset_name`.

    Raises:
        LabelError: There is none, or it cannot be shown in a table.
    """
    name = dataset or entry.get("dataset_name")
    if not name:
        raise LabelError(f"{where}: no dataset_name; name the dataset with --dataset")
    if not isinstance(name, str) or not name.isprintable():
        raise LabelError(f"{where}: dataset_name: expected printable text, got {name!r:.80}")
    return name


@dataclass(frozen=True)
class Record:
    """One checked label.

    Args:
        label: What the file states.
        video: Path relative to the video root, with forward slashes.
        path: Absolute path of the video file; without a video root, the same as `video`.
        mos_raw: MOS on the dataset's own scale.
        scale: The lowest and highest MOS the dataset could have given.
        source: Videos of one source are never split.
        info: What the video has; None when the video was not opened.
    """

    label: RawLabel
    video: str
    path: str
    mos_raw: float
    scale: tuple[float, float]
    source: str
    info: VideoInfo | None = None

    @property
    def mos(self) -> float:
        """MOS in [1, 5], where more is better."""
        return map_mos(self.mos_raw, self.scale, lower_is_better=self.label.lower_is_better)

    @property
    def video_id(self) -> str:
        """Unique over all datasets."""
        return f"{self.label.dataset}/{self.video}"

    @property
    def keys(self) -> tuple[str, str]:
        """What no two records may share: the id, and the file, which two datasets would give two MOS."""
        return self.video_id, self.path


@dataclass(frozen=True)
class Reject:
    """One row that was left out, and why."""

    label: RawLabel
    reason: str
