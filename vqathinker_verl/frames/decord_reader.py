"""decord, for the videos on which it gives the frames asked for.

decord seeks to packets marked as key frames and counts from there. That is exact only where nothing after a key frame
refers to anything before it, where every packet holds one picture of one size, and where the first is shown at time 0
or later. It also brings an FFmpeg from 2018: no AV1, and another conversion to RGB for more than 8 bits a channel or an
odd height.
"""

import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vqathinker_verl.frames.container import open_video, quarter_turns, resized, shown_size
from vqathinker_verl.frames.reader import DECODER_THREADS, UnforetoldError, decode_by_entries, finished, target_size
from vqathinker_verl.frames.scan import Scan, frame_rate, scan
from vqathinker_verl.frames.spec import FrameSpec, segment_centres
from vqathinker_verl.frames.video import DecodedVideo

logger = logging.getLogger(__name__)

# 8-bit formats that decord's FFmpeg and PyAV's convert to equal RGB, at even heights.
SAME_RGB_FORMATS = frozenset({"yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p"})


def read_frames_with_decord(path: str, spec: FrameSpec) -> DecodedVideo | None:
    """What `reader.read_frames` returns; None for a video on which decord is not proved exact, or which it refuses.

    Raises:
        ImportError: decord is not installed.
        VideoError, av.FFmpegError: As `reader.read_frames`.
    """
    import decord

    container, stream = open_video(path)
    with container:
        found = scan(path, container, stream)
        if not _seeks_are_exact(container, stream, found):
            return None
        try:
            _, first = next(decode_by_entries(container, stream, found, [0]))
        except UnforetoldError:
            return None
        fps = frame_rate(stream, [*found.times], found.last_duration)
        size = shown_size(first, stream)
    height, width = (first.width, first.height) if quarter_turns(first) % 2 else (first.height, first.width)
    if fps is None or first.format.name not in SAME_RGB_FORMATS or first.height % 2:
        return None
    if found.note:
        logger.warning("%s", found.note)
    target = target_size(path, spec, size)
    wanted = segment_centres(len(found.times), spec.num_frames)
    frames = np.empty((spec.num_frames, 3, *target), np.uint8)
    try:
        reader = decord.VideoReader(path, num_threads=DECODER_THREADS, fault_tol=0)
        if len(reader) != len(found.times):
            return None
        for row, index in enumerate(wanted):
            if row and index == wanted[row - 1]:
                frames[row] = frames[row - 1]
                continue
            picture = _as_numpy(reader[int(index)])
            if picture.shape[:2] != (height, width):
                return None
            frames[row] = resized(picture, target)
    except MemoryError:
        raise
    except Exception as error:  # decord raises its own classes, RuntimeError, AssertionError and StopIteration
        logger.info("%s: decord failed (%s)", path, str(error).splitlines()[0] if str(error) else error)
        return None
    return finished(frames, wanted, fps, len(found.times), "decord")


def _seeks_are_exact(container: Any, stream: Any, found: Scan) -> bool:
    one_size = stream.codec_context.name in ("h264", "hevc")  # where a scan finds entries
    return one_size and found.closed and found.times[0] >= 0 and len(container.streams.video) == 1


def _as_numpy(frame: Any) -> NDArray[np.uint8]:
    # Other code of the process may have set decord to return torch tensors.
    return frame.asnumpy() if hasattr(frame, "asnumpy") else np.asarray(frame)
