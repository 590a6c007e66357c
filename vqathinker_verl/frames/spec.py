"""Which frames and at what size: index arithmetic and sizes only, nothing here opens a video."""

import math
import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vqathinker_verl.frames.suffixes import is_image

# Qwen's image processors refuse pictures longer than this many times their width.
MAX_ASPECT_RATIO = 200


def segment_centres(total_frames: int, num_frames: int) -> NDArray[np.int64]:
    """Return the frame at the centre of each of `num_frames` equal segments of a video.

    Segment k's frame is int(c / 2 + round(c k)) with c = (total_frames - 1) / num_frames (docs/data.md; halves
    round to even). A video with fewer frames than segments gives repeated frames, never fewer of them.

    Args:
        total_frames: Frames in the video, at least 1.
        num_frames: Segments, at least 1.

    Returns:
        int64 (num_frames,), non-decreasing, each in [0, total_frames - 1].

    Raises:
        ValueError: Either count is below 1.

    >>> segment_centres(300, 6).tolist()
    [24, 74, 124, 174, 223, 273]
    >>> segment_centres(1, 3).tolist()
    [0, 0, 0]
    """
    if total_frames < 1 or num_frames < 1:
        raise ValueError(f"total_frames, num_frames: expected at least 1, got {total_frames}, {num_frames}")
    segment = (total_frames - 1) / num_frames
    starts = np.round(segment * np.arange(num_frames))
    return (segment / 2 + starts).astype(np.int64)


@dataclass(frozen=True)
class VideoInfo:
    """What a player shows of a video file.

    Args:
        path: The file.
        total_frames: Pictures shown; what an edit list hides is not counted.
        fps: Pictures per second, on average: `total_frames / fps` is the duration in seconds. 1 for a still image.
        height: Height in pixels, as shown: with square pixels, after the rotation that the file asks for.
        width: Width in pixels, as shown.
    """

    path: str
    total_frames: int
    fps: float
    height: int
    width: int


@dataclass(frozen=True)
class FrameSpec:
    """How many frames a model sees and their size: one fixed size, or a pixel budget per frame.

    Args:
        num_frames: Frames taken from every video, at least 1; a still image has `image_frames`.
        size: Fixed (height, width), which ignores the aspect ratio as fixed-size models do. None: the size follows
            the video and the budget.
        min_pixels: Fewest pixels (height x width) of a frame; None: no lower bound.
        max_pixels: Most pixels of a frame; None: no upper bound.
        factor: Without a fixed size both sides are multiples of this: the model's patch times its merge size.
        image_frames: How often a still image is shown: as often as the model's temporal patch has frames.

    Raises:
        ValueError: A number is out of range, or both a fixed size and a budget are given.
    """

    num_frames: int
    size: tuple[int, int] | None = None
    min_pixels: int | None = None
    max_pixels: int | None = None
    factor: int = 28
    image_frames: int = 1

    def __post_init__(self) -> None:
        for name in ("num_frames", "factor", "image_frames"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if self.size is not None:
            if self.min_pixels is not None or self.max_pixels is not None:
                raise ValueError("give either size or a budget (min_pixels, max_pixels), not both")
            # A list from a configuration file would make the spec unhashable.
            height, width = self.size
            object.__setattr__(self, "size", (int(height), int(width)))
            if min(height, width) < 1:
                raise ValueError(f"size: expected (height, width) of at least 1 pixel each, got {self.size}")
            return
        for name in ("min_pixels", "max_pixels"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}: expected at least 1, got {value}")
        if self.min_pixels is not None and self.max_pixels is not None and self.min_pixels > self.max_pixels:
            raise ValueError(f"min_pixels ({self.min_pixels}) is above max_pixels ({self.max_pixels})")

    def frames_of(self, path: str | os.PathLike[str]) -> int:
        """Frames shown of a file: `image_frames` of a still image, `num_frames` of a video."""
        return self.image_frames if is_image(path) else self.num_frames

    def target_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the (height, width) that a frame of the given size is resized to.

        Without a fixed size this is Qwen's `smart_resize`: both sides are rounded to the nearest multiple of `factor`;
        if that leaves the budget, both are scaled by one number so that the area meets it, then rounded inwards (down
        for too many pixels, up for too few).

        Raises:
            ValueError: The frame is empty, or longer than 200 times its width, which Qwen's processors refuse.
        """
        if min(height, width) < 1:
            raise ValueError(f"expected a frame of at least 1x1 pixels, got {height}x{width}")
        if self.size is not None:
            return self.size
        if max(height, width) / min(height, width) > MAX_ASPECT_RATIO:
            raise ValueError(f"expected an aspect ratio of at most {MAX_ASPECT_RATIO}, got a frame of {height}x{width}")
        new_height = max(self.factor, round(height / self.factor) * self.factor)
        new_width = max(self.factor, round(width / self.factor) * self.factor)
        if self.max_pixels is not None and new_height * new_width > self.max_pixels:
            shrink = math.sqrt(height * width / self.max_pixels)
            new_height = max(self.factor, math.floor(height / shrink / self.factor) * self.factor)
            new_width = max(self.factor, math.floor(width / shrink / self.factor) * self.factor)
        elif self.min_pixels is not None and new_height * new_width < self.min_pixels:
            grow = math.sqrt(self.min_pixels / (height * width))
            new_height = math.ceil(height * grow / self.factor) * self.factor
            new_width = math.ceil(width * grow / self.factor) * self.factor
        return new_height, new_width


def video_tokens(info: VideoInfo, spec: FrameSpec, patch: int = 14, merge: int = 2, temporal_patch: int = 2) -> int:
    """Return how many vision tokens a Qwen-VL model spends on a video, from its metadata alone.

    Frames go in pairs (`temporal_patch`; an odd last one is repeated), each pair is cut into patch x patch pixels, and
    merge x merge patches make a token. The start and end markers around them are text and are not counted.

    Args:
        info: What `probe` read from the file.
        spec: The frames that the model sees.
        patch: Side of a patch in pixels.
        merge: Patches a token spans, on each side.
        temporal_patch: Frames that a token spans.

    Raises:
        ValueError: The frame size is no multiple of patch x merge.

    >>> video_tokens(VideoInfo("x.mp4", 300, 30.0, 1080, 1920), FrameSpec(6, size=(448, 448)))
    768
    """
    new_height, new_width = spec.target_size(info.height, info.width)
    token_side = patch * merge
    if new_height % token_side or new_width % token_side:
        raise ValueError(f"expected sides that are multiples of {token_side}, got {new_height}x{new_width}")
    return (
        math.ceil(spec.frames_of(info.path) / temporal_patch) * (new_height // token_side) * (new_width // token_side)
    )
