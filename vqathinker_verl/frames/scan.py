"""Read the packets of a video stream once, without decoding, and derive what a player would show if they prove it."""

import bisect
import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from vqathinker_verl.frames.access_units import Kind, Picture, classifier
from vqathinker_verl.frames.video import VideoError

# A file that holds less than this of the frames or the length it states is cut off: its MOS is about a video that we
# do not have.
MIN_SHARE = 0.9

# Containers whose packets are complete pictures with their own time stamps, and whose seeks go to a packet by its time.
INDEXED = frozenset({"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"})
# Containers that state a duration of their own; FFmpeg estimates that of the others.
STATE_DURATION = INDEXED | {"avi", "flv", "asf", "nut", "mxf"}


@dataclass(frozen=True)
class Entry:
    """A packet at which decoding may begin.

    Args:
        packet: Its place among the packets, in the file's order.
        rank: The place of its picture among those shown.
        pts: Its time stamp.
    """

    packet: int
    rank: int
    pts: int


@dataclass(frozen=True)
class Scan:
    """What the packets of the chosen stream say.

    Args:
        packets: Packets whose pictures are shown, if each holds one.
        times: Time stamps of the pictures shown, ascending, where `entries` is not empty.
        last_duration: Stated duration of the picture shown last; 0 where the file states none.
        entries: Where decoding may begin, ascending and from the first packet on. Empty where the packets do not prove
            which pictures come out: then the file must be decoded from its start.
        order: Time stamps and sizes of the packets, in the file's order.
        closed: Whether every key frame is an entry and no picture refers to one before the last key frame.
        incomplete: Whether the last packet is cut off, as the file's end is missing; it is not to be decoded.
        note: Set where a few frames of the file are missing.
    """

    packets: int
    times: list[int]
    last_duration: int
    entries: list[Entry]
    order: list[tuple[int | None, int]]
    closed: bool
    incomplete: bool
    note: str | None

    def number_of(self, pts: int | None) -> int | None:
        """The place of a packet in the file's order, by its time stamp; None for an unknown one."""
        return next((number for number, (time, _) in enumerate(self.order) if time == pts), None)


def scan(path: str, container: Any, stream: Any) -> Scan:
    """Read all packets of an opened file; its position is at its end afterwards.

    Raises:
        VideoError: The file is cut off.
    """
    stated = _stated_frames(path, container, stream)
    provable = container.format.name in INDEXED
    classify = classifier(stream.codec_context.name, stream.codec_context.extradata or b"") if provable else None
    order: list[tuple[int | None, int]] = []
    pictures: list[Picture] = []
    durations: dict[int, int] = {}
    shown, closed, incomplete, seconds = 0, True, False, 0.0
    for packet in container.demux():
        if packet.pts is not None:
            seconds = max(seconds, float((packet.pts + (packet.duration or 0)) * packet.time_base))
        if packet.stream_index != stream.index or not packet.size:
            if packet.stream_index == stream.index and packet.pts is not None:
                classify = None  # a packet without data, such as AVI's for a repeated picture
            continue
        order.append((packet.pts, packet.size))
        shown += not packet.is_discard
        incomplete = provable and packet.is_corrupt
        if classify is None:
            continue
        picture = None
        if packet.pts is not None and not (packet.is_discard or packet.is_corrupt or _changes_stream(packet)):
            picture = classify(bytes(packet))
        if picture is None:
            classify = None
            continue
        pictures.append(picture)
        durations[packet.pts] = packet.duration or 0
        closed = closed and picture.kind is not Kind.LEADING and packet.is_keyframe == (picture.kind is Kind.ENTRY)
    note = _check_complete(path, container, stated, len(order) - incomplete, seconds)
    entries: list[Entry] = []
    if classify is not None and len(durations) == len(order):
        entries = _entries(pictures, list(durations), stream.codec_context)
    times = sorted(durations) if entries else []
    last_duration = durations[times[-1]] if times else 0
    return Scan(shown - incomplete, times, last_duration, entries, order, closed and bool(entries), incomplete, note)


def _changes_stream(packet: Any) -> bool:
    return bool(packet.has_sidedata("new_extradata") or packet.has_sidedata("param_change"))


def _entries(pictures: list[Picture], times: list[int], codec_context: Any) -> list[Entry]:
    """Return the packets at which decoding may begin; none if the time stamps contradict the packets."""
    if not pictures or pictures[0].kind is not Kind.ENTRY or not _in_order_of_time(pictures, times):
        return []
    # FFmpeg's H.264 decoder leaves out a picture that comes later than it expects. (The other decoders know how late.)
    if codec_context.name == "h264" and _reordering(times) > codec_context.reorder_depth:
        return []
    in_order = sorted(times)
    entries: list[Entry] = []
    latest = None  # time stamp of the packets so far
    for number, (picture, time) in enumerate(zip(pictures, times, strict=True)):
        if picture.kind is Kind.ENTRY:
            if latest is not None and latest > time:
                return []
            entries.append(Entry(number, bisect.bisect_left(in_order, time), time))
        elif picture.kind is Kind.LEADING:
            if time > entries[-1].pts or (len(entries) > 1 and time < entries[-2].pts):
                return []
        elif time < entries[-1].pts:
            return []
        latest = time if latest is None else max(latest, time)
    return entries


def _in_order_of_time(pictures: list[Picture], times: list[int]) -> bool:
    """Whether the codec counts the pictures in the order of their time stamps, in equal steps: then none is missing."""
    starts = [number for number, picture in enumerate(pictures) if picture.restart]
    step = None
    for start, end in itertools.pairwise([*starts, len(pictures)]):
        if pictures[start].place is None:
            continue
        by_time = sorted(range(start, end), key=lambda number: times[number])
        for one, other in itertools.pairwise(pictures[number] for number in by_time):
            assert one.place is not None
            assert other.place is not None  # pictures of one stretch count alike
            taken = (other.place - one.place) % one.modulus
            step = step or taken
            if taken != step or not taken:
                return False
    if not starts or pictures[0].place is None:
        return all(one < other for one, other in itertools.pairwise(times))
    return True


def _reordering(times: list[int]) -> int:
    """Most pictures that precede one in the file and follow it on the screen."""
    seen: list[int] = []
    most = 0
    for time in times:
        place = bisect.bisect(seen, time)
        most = max(most, len(seen) - place)
        seen.insert(place, time)
    return most


def _stated_frames(path: str, container: Any, stream: Any) -> int:
    """Packets that the container's own table states; 0 where it has none."""
    stated: int = stream.frames
    if stated > os.path.getsize(path):
        raise VideoError(f"{path}: states {stated} frames, more than it has bytes; fetch it again or leave it out")
    if container.format.name == "mov,mp4,m4a,3gp,3g2,mj2" and stated:
        # FFmpeg's table is what the edit list leaves over.
        return len(stream.index_entries)
    return stated


def _check_complete(path: str, container: Any, stated: int, packets: int, seconds: float) -> str | None:
    """Refuse a file that is cut off; return a note if only little is missing.

    Raises:
        VideoError: Less than MIN_SHARE of it is there.
    """
    import av

    if stated:
        message = f"{path}: the file states {stated} frames and has {packets}"
        if packets < MIN_SHARE * stated:
            raise VideoError(f"{message}; expected at least {MIN_SHARE:.0%}; fetch it again or leave it out")
        return f"{message}; frames are taken from those" if packets < stated else None
    if container.format.name in STATE_DURATION:
        length = (container.duration or 0) / av.time_base
        if seconds < MIN_SHARE * length:
            raise VideoError(
                f"{path}: the file states {length:.1f} s and ends after {seconds:.1f} s; "
                f"expected at least {MIN_SHARE:.0%}; fetch it again or leave it out"
            )
    return None


def frame_rate(stream: Any, times: Sequence[int | None], last_duration: int) -> float | None:
    """Pictures per second: their number over the time for which they are shown.

    So the video's length is their number over this rate, whether each is shown for the same time or not. The last one
    is shown for the duration that the file states for it, else for as long as the others on average. Where that is the
    rate that the container states, up to two ticks of its clock (milliseconds in Matroska), it is the stated one. Where
    pictures have no time stamps (AVI, raw streams), or not ascending ones, it is the stated one, too.
    """
    rate = stream.average_rate or stream.guessed_rate
    known = [time for time in times if time is not None]
    if known and len(known) == len(times) and all(a < b for a, b in itertools.pairwise(known)):
        spacing = Fraction(known[-1] - known[0], len(known) - 1) if len(known) > 1 else Fraction(0)
        shown = known[-1] - known[0] + (last_duration if last_duration > 0 else spacing)
        if shown > 0 and not (rate and abs(len(known) / rate / stream.time_base - shown) <= 2):
            return float(len(known) / (shown * stream.time_base))
    return float(rate) if rate else None
