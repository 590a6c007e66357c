"""Frames in memory, shown to a model as those of a file are."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from vqathinker_verl.frames import DecodedVideo, FrameSpec, VideoError
from vqathinker_verl.frames.spec import segment_centres


@dataclass(frozen=True, eq=False)
class FrameArray:
    """All frames of a video that is in memory; the model sees the ones it would see of a file. One frame is an image.

    Attributes:
        frames: uint8 RGB (T, 3, H, W), NumPy or torch.
        fps: Frames per second: frame k is shown at k / fps seconds.
        name: What errors call it.
    """

    frames: Any
    fps: float
    name: str = "frames"

    def __str__(self) -> str:
        return self.name

    @property
    def is_image(self) -> bool:
        """Whether it is a still image: a single frame."""
        shape = np.shape(self.frames)
        return len(shape) == 4 and shape[0] == 1

    def decoded(self, spec: FrameSpec) -> DecodedVideo:
        """Return the frames that a model sees.

        Raises:
            VideoError: Shape, type or fps are wrong.
        """
        from vqathinker_verl.frames.container import resized

        frames = self.frames.detach().cpu().numpy() if hasattr(self.frames, "detach") else np.asarray(self.frames)
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[1] != 3 or 0 in frames.shape:
            raise VideoError(
                f"{self.name}: expected uint8 RGB frames (T, 3, H, W), got {frames.dtype} of shape {frames.shape}"
            )
        if not (np.isfinite(self.fps) and self.fps > 0):
            raise VideoError(f"{self.name}: fps: expected a number above 0, got {self.fps}")
        indices = segment_centres(len(frames), spec.image_frames if self.is_image else spec.num_frames)
        try:
            target = spec.target_size(*frames.shape[2:])
        except ValueError as error:
            raise VideoError(f"{self.name}: {error}") from error
        shown = np.stack([resized(frames[index].transpose(1, 2, 0), target) for index in indices])
        for array in (shown, indices):
            array.flags.writeable = False
        return DecodedVideo(shown, indices, float(self.fps), len(frames), "array")
