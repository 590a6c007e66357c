"""Decode a video file into the uint8 frames that a model sees, with the chosen decoder.

Pillow reads still images (`image.py`). PyAV, which brings its own FFmpeg in its wheel, reads every video (`reader.py`).
decord is a choice for the videos on which it is exact (`decord_reader.py`); it gives the same frames there, and PyAV
decodes the others.
"""

import logging
from collections.abc import Callable
from typing import TypeVar

from vqathinker_verl.frames.image import read_image_frames, read_image_info
from vqathinker_verl.frames.reader import read_frames
from vqathinker_verl.frames.reader import read_info as read_info_exactly
from vqathinker_verl.frames.spec import FrameSpec, VideoInfo
from vqathinker_verl.frames.suffixes import is_image
from vqathinker_verl.frames.video import DecodedVideo, Decoder, VideoError

logger = logging.getLogger(__name__)

Result = TypeVar("Result")


def read_info(path: str) -> VideoInfo:
    """What `processes.probe` returns, read in this process.

    Raises:
        VideoError: See there.
    """
    return _named(path, lambda: read_image_info(path) if is_image(path) else read_info_exactly(path))


def decode_here(path: str, spec: FrameSpec, decoder: Decoder = "auto") -> DecodedVideo:
    """What `processes.decode` returns, decoded in this process, which a damaged file can abort or hold up.

    Raises:
        VideoError: See there.
        ImportError: The decoder is not installed.
    """
    return _named(path, lambda: _decode(path, spec, decoder))


def _decode(path: str, spec: FrameSpec, decoder: Decoder) -> DecodedVideo:
    if is_image(path):
        return read_image_frames(path, spec)
    if decoder == "decord":
        from vqathinker_verl.frames.decord_reader import read_frames_with_decord

        if (video := read_frames_with_decord(path, spec)) is not None:
            return video
        logger.info("%s: decord is not exact for it; decoded with PyAV", path)
    return read_frames(path, spec)


def _named(path: str, read: Callable[[], Result]) -> Result:
    """read(); any error that a decoder raises about a file's content becomes one that names the file."""
    try:
        return read()
    except (VideoError, ImportError, MemoryError):
        raise
    except Exception as error:  # damaged files bring PyAV to raise FFmpeg's errors, and IndexError and others besides
        raise _unreadable(path, error) from error


def _unreadable(path: str, error: Exception) -> VideoError:
    lines = str(error).splitlines()
    reason = lines[0] if lines else type(error).__name__
    kind = "an image" if is_image(path) else "a video"
    return VideoError(f"{path}: cannot be decoded ({reason}); expected {kind}; fetch it again or leave it out")
