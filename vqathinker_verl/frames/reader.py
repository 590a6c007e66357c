"""The exact reader: frame k is the k-th picture that a player shows, for every file and on every machine.

The truth is what FFmpeg gives when it decodes the stream in order from its start; edit lists are honoured and samples
that the file marks as not shown are not counted. Where a scan of the packets proves which pictures come out
(`scan.py`), decoding begins at the key frame before each wanted picture, and every picture that comes out on the way
must have the time stamp that the scan predicted. Everything else is decoded from its start to its end.
"""

import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vqathinker_verl.frames.container import open_video, shown_picture, shown_size
from vqathinker_verl.frames.scan import Entry, Scan, frame_rate, scan
from vqathinker_verl.frames.spec import FrameSpec, VideoInfo, segment_centres
from vqathinker_verl.frames.video import DecodedVideo, VideoError

logger = logging.getLogger(__name__)

# Threads inside one decoder. Videos are decoded side by side, so more would only wait for a core.
DECODER_THREADS = 2


class UnforetoldError(Exception):
    """Decoding from the middle gave another result than the scan of the packets predicts."""


def read_info(path: str) -> VideoInfo:
    """Count, rate and size of a video, as `read_frames` finds them.

    Raises:
        VideoError: The file cannot be opened, has no video, or is cut off.
        av.FFmpegError: It is damaged.
    """
    info, _ = _read(path, None)
    return info


def read_frames(path: str, spec: FrameSpec) -> DecodedVideo:
    """The frames at the segment centres of a video.

    Raises:
        VideoError: As `read_info`; or the video is too flat for the spec.
        av.FFmpegError: It is damaged.
    """
    info, pictures = _read(path, spec)
    assert pictures is not None
    return finished(pictures.frames, pictures.wanted, info.fps, info.total_frames, "pyav")


def _read(path: str, spec: FrameSpec | None) -> "tuple[VideoInfo, _Pictures | None]":
    container, stream = open_video(path)
    with container:
        found = scan(path, container, stream)
        if found.note:
            logger.warning("%s", found.note)
        if found.entries:
            try:
                return _read_by_entries(path, container, stream, found, spec)
            except UnforetoldError as error:
                logger.info("%s: %s; decoding all of it", path, error)
    return _read_from_start(path, found, spec)


def _read_by_entries(
    path: str, container: Any, stream: Any, found: Scan, spec: FrameSpec | None
) -> "tuple[VideoInfo, _Pictures | None]":
    total_frames = len(found.times)
    pictures = _Pictures(path, spec, total_frames) if spec else None
    info = None
    # The first picture decides the size.
    for index, frame in decode_by_entries(
        container, stream, found, {0, *(pictures.wanted.tolist() if pictures else [])}
    ):
        if index == 0:
            fps = _rate(path, stream, found.times, found.last_duration)
            info = VideoInfo(path, total_frames, fps, *shown_size(frame, stream))
        if pictures:
            pictures.take(index, frame, stream)
    assert info is not None
    return info, pictures


def decode_by_entries(container: Any, stream: Any, found: Scan, wanted: Collection[int]) -> Iterator[tuple[int, Any]]:
    """The pictures at the wanted places, ascending.

    Raises:
        UnforetoldError: A packet or a picture is not the one that the scan found there.
    """
    stream.thread_type = "AUTO"
    stream.codec_context.thread_count = DECODER_THREADS
    upcoming: Iterator[tuple[int, Any]] = iter(())
    place = -1
    for index in sorted(wanted):
        entry = max((entry for entry in found.entries if entry.rank <= index), key=lambda entry: entry.rank)
        if place < entry.rank:
            upcoming = _decode_from(container, stream, found, entry)
        for place, frame in upcoming:
            if place == index:
                yield index, frame
                break
        else:
            raise UnforetoldError(f"picture {index} did not come out")


def _decode_from(container: Any, stream: Any, found: Scan, entry: Entry) -> Iterator[tuple[int, Any]]:
    """The pictures from an entry on, with their places."""
    import av

    try:
        container.seek(entry.pts, stream=stream)
    except av.FFmpegError as error:
        raise UnforetoldError(f"seeking to the key frame at {entry.pts} failed ({error.strerror})") from error
    number, place = None, entry.rank
    for packet in container.demux(stream):
        if packet.size:
            if number is None:
                number = found.number_of(packet.pts)
                if number is None or number > entry.packet:
                    raise UnforetoldError(f"seeking to the key frame at {entry.pts} went past it")
            if number >= len(found.order) or (packet.pts, packet.size) != found.order[number]:
                raise UnforetoldError(f"another packet than expected at number {number}")
            number += 1
            if number <= entry.packet:
                continue
        for frame in packet.decode():
            if frame.pts is not None and frame.pts < entry.pts:
                continue  # a leading picture, for which the ones before the entry are missing
            if place >= len(found.times) or frame.pts != found.times[place] or frame.is_corrupt:
                raise UnforetoldError(f"picture {place} came out at {frame.pts}")
            yield place, frame
            place += 1


def _read_from_start(path: str, found: Scan, spec: FrameSpec | None) -> "tuple[VideoInfo, _Pictures | None]":
    """Decode all pictures; keep the wanted ones if each packet gave one picture, otherwise decode a second time."""
    guess = found.packets
    times: list[int | None] = []
    last_duration, size, pictures = 0, None, None
    if spec and guess:
        pictures = _Pictures(path, spec, guess)
    container, stream = open_video(path)
    with container:
        for index, frame in _decode_all(container, stream, found):
            size = size or shown_size(frame, stream)
            times.append(frame.pts)
            last_duration = frame.duration or 0
            if pictures:
                pictures.take(index, frame, stream)
        if size is None:
            raise VideoError(f"{path}: no frame can be decoded; expected at least one; fetch it again or leave it out")
        info = VideoInfo(path, len(times), _rate(path, stream, times, last_duration), *size)
    if spec and len(times) != guess:
        pictures = _Pictures(path, spec, len(times))
        container, stream = open_video(path)
        with container:
            for index, frame in _decode_all(container, stream, found):
                pictures.take(index, frame, stream)
                if index == pictures.wanted[-1]:
                    break
    return info, pictures


def _decode_all(container: Any, stream: Any, found: Scan) -> Iterable[tuple[int, Any]]:
    """The pictures in order, with their places."""
    # Threads that work on several pictures at once would conceal damage in other ways than FFmpeg does by default.
    stream.codec_context.thread_count = DECODER_THREADS
    # The last packets are empty: they bring the decoder to give what it holds back.
    packets: Iterator[Any] = container.demux(stream)
    if found.incomplete:
        last = len(found.order) - 1
        packets = (packet for number, packet in enumerate(packets) if number != last)
    return enumerate(frame for packet in packets for frame in packet.decode())


def _rate(path: str, stream: Any, times: Sequence[int | None], last_duration: int) -> float:
    fps = frame_rate(stream, times, last_duration)
    if fps is None:
        raise VideoError(f"{path}: the file states no frame rate; expected one; convert it to MP4")
    return fps


class _Pictures:
    """Collects the pictures at the segment centres, resized to what the first picture's size asks for.

    A video may change its size in the middle: every picture is resized to the one target.
    """

    def __init__(self, path: str, spec: FrameSpec, total_frames: int) -> None:
        self.path, self.spec = path, spec
        self.wanted = segment_centres(total_frames, spec.num_frames)
        self._frames: NDArray[np.uint8] | None = None

    @property
    def frames(self) -> NDArray[np.uint8]:
        """uint8 RGB (T, C, H, W)."""
        assert self._frames is not None
        return self._frames

    def take(self, index: int, frame: Any, stream: Any) -> None:
        """Keep the picture if it is wanted; the first call must be for the first picture."""
        if self._frames is None:
            target = target_size(self.path, self.spec, shown_size(frame, stream))
            self._frames = np.empty((self.spec.num_frames, 3, *target), np.uint8)
        rows = np.flatnonzero(self.wanted == index)
        if rows.size:
            self._frames[rows] = shown_picture(frame, self._frames.shape[2:])


def target_size(path: str, spec: FrameSpec, size: tuple[int, int]) -> tuple[int, int]:
    """The (height, width) that a video's pictures are resized to.

    Raises:
        VideoError: They are too flat.
    """
    try:
        return spec.target_size(*size)
    except ValueError as error:
        raise VideoError(f"{path}: {error}; leave the video out or give the frames a fixed size") from error


def finished(
    frames: NDArray[np.uint8], indices: NDArray[np.int64], fps: float, total_frames: int, backend: str
) -> DecodedVideo:
    """The result, read-only."""
    frames.flags.writeable = False
    indices.flags.writeable = False
    return DecodedVideo(frames, indices, fps, total_frames, backend)
