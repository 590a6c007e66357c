"""From a video file to the uint8 frames that a model sees.

decord decodes by default. PyAV, which brings its own FFmpeg in its wheel, reads the headers and takes over where decord
is absent, fails (its FFmpeg is from 2018: no AV1), or would not give the same pixels, since FFmpeg's conversion to RGB
has changed in corners: more than 8 bits a channel, an odd height. Everywhere else the two give equal frames, so a
machine without decord trains on the same pictures.
"""

import logging
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vqathinker_verl.frames.spec import FrameSpec, VideoInfo, segment_centres

logger = logging.getLogger(__name__)

# Threads inside one decoder. Videos are decoded side by side, so more would only wait for a core.
DECODER_THREADS = 2
# A file that holds less than this of the frames or the length it states is cut off: its MOS is about a video that we
# do not have.
MIN_SHARE = 0.9

# 8-bit formats that decord's FFmpeg and PyAV's convert to equal RGB, at even heights.
SAME_RGB_FORMATS = frozenset({"yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p"})

# FFmpeg's names of the containers that hold their video themselves. Playlists, such as HLS and concat, are left out:
# they have FFmpeg open other files, which may lie anywhere.
FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,mxf,nut,dv,rm,gif,ivf,obu,av1,"
    "h264,hevc,vvc,m4v,vc1,yuv4mpegpipe"
)

Result = TypeVar("Result")


class VideoError(ValueError):
    """A video file cannot be used; the message names the file, what was expected and what to do."""


@dataclass(frozen=True)
class DecodedVideo:
    """The frames of one video that a model sees.

    Args:
        frames: uint8 RGB (T, C, H, W), read-only.
        indices: int64 (T,), each frame's place in the video, read-only.
        fps: Frames per second of the video itself, not of the sampled frames.
        total_frames: Frames of the video that can be decoded.
        backend: What decoded it: "decord" or "pyav".
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


def read_info(path: str) -> VideoInfo:
    """What `processes.probe` returns, read in this process.

    Raises:
        VideoError: See there.
    """
    return _named(path, lambda: _read_header(path).info)


def decode_here(path: str, spec: FrameSpec) -> DecodedVideo:
    """What `processes.decode` returns, decoded in this process, which a damaged file can abort or hold up.

    Raises:
        VideoError: See there.
    """
    return _named(path, lambda: _decode(path, spec))


def _named(path: str, read: Callable[[], Result]) -> Result:
    """read(); any error that a decoder raises about a file's content becomes one that names the file."""
    try:
        return read()
    except (VideoError, ImportError, MemoryError):
        raise
    except Exception as error:  # damaged files bring PyAV to raise FFmpeg's errors, and IndexError and others besides
        raise _unreadable(path, error) from error


def _open(path: str) -> Any:
    """Open a container with PyAV."""
    import av

    # Tags in other encodings than UTF-8 are no reason to refuse a video.
    return av.open(path, options={"format_whitelist": FORMATS}, metadata_errors="replace")


def _check_file(path: str) -> None:
    try:
        status = os.stat(path)
    except OSError as error:
        reason = error.strerror
        raise VideoError(f"{path}: cannot be opened ({reason}); expected a video file; check the path") from error
    if not stat.S_ISREG(status.st_mode):
        raise VideoError(f"{path}: not a regular file; expected a video file; check the path")
    if status.st_size == 0:
        raise VideoError(f"{path}: the file is empty; expected a video; fetch it again")


@dataclass(frozen=True)
class _Header:
    info: VideoInfo
    frames_stated: bool  # whether info.total_frames is the container's own count
    same_rgb: bool  # whether decord gives the same pixels as PyAV


def _read_header(path: str) -> _Header:
    """Header of a video. Its first frame is decoded too: only frames carry the rotation that the file asks for."""
    _check_file(path)
    with _open(path) as container:
        if not container.streams.video:
            raise VideoError(f"{path}: no video stream in the file; expected a video; check the file")
        stream = container.streams.video[0]
        frame = next(container.decode(stream), None)
        rate = stream.average_rate or stream.guessed_rate
        stated = stream.frames
    if frame is None:
        raise VideoError(f"{path}: no frame can be decoded; expected at least one; fetch it again")
    if not rate:
        raise VideoError(f"{path}: the header states no frame rate; expected one; convert it to MP4")
    if stated > os.path.getsize(path):  # decord makes a table of as many entries, and aborts where memory ends
        raise VideoError(f"{path}: states {stated} frames, more than it has bytes; fetch it again or leave it out")
    height, width = frame.height, frame.width
    if _quarter_turns(frame) % 2:
        height, width = width, height
    info = VideoInfo(path, stated or _count_packets(path), float(rate), height, width)
    same_rgb = frame.format.name in SAME_RGB_FORMATS and frame.height % 2 == 0
    return _Header(info, bool(stated), same_rgb)


def _quarter_turns(frame: Any) -> int:
    """Counter-clockwise quarter turns, for np.rot90, that bring a PyAV frame upright."""
    rotation: float = frame.rotation
    return round(rotation / 90) % 4


def _count_packets(path: str) -> int:
    """Frames of a video by its packets: the count where the container states none."""
    import av

    count, seconds = 0, 0.0
    with _open(path) as container:
        for packet in container.demux(container.streams.video[0]):
            if packet.size:
                count += 1
                if packet.pts is not None and packet.time_base is not None:
                    seconds = max(seconds, float((packet.pts + (packet.duration or 0)) * packet.time_base))
        stated = (container.duration or 0) / av.time_base
    if seconds < MIN_SHARE * stated:
        raise VideoError(
            f"{path}: the file states {stated:.1f} s and its video ends after {seconds:.1f} s; "
            f"expected at least {MIN_SHARE:.0%}; fetch it again or leave it out"
        )
    return count


def _unreadable(path: str, error: Exception) -> VideoError:
    lines = str(error).splitlines()
    reason = lines[0] if lines else type(error).__name__
    return VideoError(f"{path}: cannot be decoded ({reason}); expected a video; fetch it again or leave it out")


def _decode(path: str, spec: FrameSpec) -> DecodedVideo:
    header = _read_header(path)
    try:
        target = spec.target_size(header.info.height, header.info.width)
    except ValueError as error:
        raise VideoError(f"{path}: {error}; leave the video out or give the frames a fixed size") from error
    video = None
    if header.same_rgb:
        video = _decode_with_decord(path, spec.num_frames, target)
    if video is None:
        video = _decode_with_pyav(path, spec.num_frames, target, header.info.fps)
    stated = header.info.total_frames
    if header.frames_stated and video.total_frames != stated:
        message = f"{path}: the file states {stated} frames and {video.total_frames} can be decoded"
        if video.total_frames < MIN_SHARE * stated:
            raise VideoError(f"{message}; expected at least {MIN_SHARE:.0%}; fetch it again or leave it out")
        logger.warning("%s; frames are taken from those", message)
    return video


def _decode_with_decord(path: str, num_frames: int, target: tuple[int, int]) -> DecodedVideo | None:
    """Decode with decord; None where it is absent or cannot decode the file, which is then PyAV's to judge."""
    try:
        import decord
    except ImportError:
        return None
    try:
        reader = decord.VideoReader(path, num_threads=DECODER_THREADS, fault_tol=0)
        indices = segment_centres(len(reader), num_frames)
        frames = np.empty((num_frames, 3, *target), np.uint8)
        for row, index in enumerate(indices):
            if row and index == indices[row - 1]:
                frames[row] = frames[row - 1]
            else:
                frames[row] = _resized(_as_numpy(reader[int(index)]), target)
        fps = float(reader.get_avg_fps())
    except MemoryError:
        raise
    except Exception as error:  # decord raises its own classes, RuntimeError, AssertionError and StopIteration
        logger.info("%s: decord failed (%s), trying PyAV", path, str(error).splitlines()[0] if str(error) else error)
        return None
    return _finished(frames, indices, fps, len(reader), "decord")


def _as_numpy(frame: Any) -> NDArray[np.uint8]:
    # Other code of the process may have told decord to hand out torch tensors.
    return frame.asnumpy() if hasattr(frame, "asnumpy") else np.asarray(frame)


def _decode_with_pyav(path: str, num_frames: int, target: tuple[int, int], fps: float) -> DecodedVideo:
    """Decode with PyAV, from the first frame on: exact for any container, and right for a fallback."""
    total_frames = _count_packets(path)
    while total_frames > 0:
        wanted = segment_centres(total_frames, num_frames)
        frames = np.empty((num_frames, 3, *target), np.uint8)
        index = -1
        with _open(path) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            stream.codec_context.thread_count = DECODER_THREADS
            for index, frame in enumerate(container.decode(stream)):
                rows = np.flatnonzero(wanted == index)
                if rows.size:
                    upright = np.rot90(frame.to_ndarray(format="rgb24"), _quarter_turns(frame))
                    frames[rows] = _resized(np.asarray(upright, np.uint8), target)
                if index == wanted[-1]:
                    return _finished(frames, wanted, fps, total_frames, "pyav")
        # Some packets carry no frame of their own: the frames that came out are the ones to count.
        total_frames = index + 1
    raise VideoError(f"{path}: no frame can be decoded; expected at least one; fetch it again or leave it out")


def _finished(
    frames: NDArray[np.uint8], indices: NDArray[np.int64], fps: float, total_frames: int, backend: str
) -> DecodedVideo:
    frames.flags.writeable = False
    indices.flags.writeable = False
    return DecodedVideo(frames, indices, fps, total_frames, backend)


def _resized(picture: NDArray[np.uint8], target: tuple[int, int]) -> NDArray[np.uint8]:
    """RGB (H, W, C) to RGB (C, *target). Pillow's bicubic filter widens as it shrinks, so nothing aliases."""
    if picture.shape[:2] != target:
        image = Image.fromarray(np.ascontiguousarray(picture))
        picture = np.asarray(image.resize((target[1], target[0]), Image.Resampling.BICUBIC))
    return picture.transpose(2, 0, 1)
