"""What decoding returns: the frames of one video, or an error that says why there are none."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

# "auto" is PyAV: it is exact for every file, and measured no slower than decord (docs/data.md).
Decoder = Literal["auto", "pyav", "decord"]


def check_decoder(name: str) -> None:
    """Raise ValueError for a name that is no Decoder."""
    if name not in get_args(Decoder):
        raise ValueError(f"decoder: expected one of {', '.join(get_args(Decoder))}, got {name!r}")


class VideoError(ValueError):
    """A video file cannot be used; the message names the file, what was expected and what to do."""


@dataclass(frozen=True)
class DecodedVideo:
    """The frames of one video that a model sees.

    Args:
        frames: uint8 RGB (T, C, H, W), read-only.
        indices: int64 (T,), each frame's place in the video, read-only.
        fps: Frames per second of the video itself, not of the sampled frames (`VideoInfo.fps`): frame k is shown at
            k / fps seconds.
        total_frames: Pictures that a player shows.
        backend: What decoded it: "pyav", "decord", or "pillow" for a still image.
    """

    frames: NDArray[np.uint8]
    indices: NDArray[np.int64]
    fps: float
    total_frames: int
    backend: str

    @property
    def nbytes(self) -> int:
        """Bytes that the frames hold: T x 3 x H x W."""
        return self.frames.nbytes
