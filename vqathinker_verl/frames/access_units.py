"""What the packets of a coded video hold, as far as it decides which pictures come out of a decoder.

The exact reader may skip a part of a file only if every packet holds exactly one picture that is shown, and if decoding
may begin in the middle. For H.264, HEVC, VP9 and AV1 the first bits of each packet tell. A function here looks at the
packets one after another and says None for anything else: then the file is decoded from its start.
"""

from collections.abc import Callable, Iterator
from enum import Enum, auto


class Unit(Enum):
    """A packet with exactly one shown picture."""

    ENTRY = auto()  # no later packet needs an earlier one, except the LEADING ones that follow this packet
    LEADING = auto()  # follows an ENTRY and is shown before it; it may need earlier packets
    OTHER = auto()


Classify = Callable[[bytes], Unit | None]


def classifier(codec: str, extradata: bytes) -> Classify | None:
    """How to look at the packets of a stream, in order; None for a codec whose packets are not understood.

    Args:
        codec: FFmpeg's name of the codec.
        extradata: The stream's header as the container stores it (for MP4: avcC, hvcC, av1C).
    """
    if codec == "h264" and len(extradata) > 6 and extradata[0] == 1:
        return _H264(extradata)
    if codec == "hevc" and len(extradata) > 22 and extradata[0] == 1:
        return _HEVC(extradata)
    if codec == "vp9":
        return _vp9
    if codec in ("av1", "libdav1d"):
        return _AV1()
    return None


def _nal_units(data: bytes, length_size: int) -> Iterator[bytes]:
    """NAL units behind their lengths.

    Raises:
        ValueError: The lengths do not add up to the data.
    """
    at = 0
    while at < len(data):
        start = at + length_size
        end = start + int.from_bytes(data[at:start], "big")
        if end > len(data) or end < start + 3:
            raise ValueError("lengths of NAL units that do not fit the packet")
        yield data[start:end]
        at = end


class _H264:
    """H.264 in avcC form (ISO 14496-10, 7.3.1 and 7.3.3; ISO 14496-15, 5.3.3)."""

    OTHER_TYPES = frozenset({6, 9, 12})  # SEI, delimiter, filler
    PARAMETER_TYPES = frozenset({7, 8})

    def __init__(self, extradata: bytes) -> None:
        self.length_size = (extradata[4] & 3) + 1
        self.extradata = extradata

    def __call__(self, data: bytes) -> Unit | None:
        pictures, types = 0, set()
        try:
            for nal in _nal_units(data, self.length_size):
                kind = nal[0] & 31
                if kind in (1, 5):
                    types.add(kind)
                    pictures += nal[1] >> 7  # first_mb_in_slice is 0: the first slice of a picture or field
                elif kind in self.PARAMETER_TYPES:
                    if nal not in self.extradata:  # a new size, or settings that a skipped packet brings
                        return None
                elif kind not in self.OTHER_TYPES:
                    return None
        except ValueError:
            return None
        if pictures != 1 or len(types) != 1:
            return None
        return Unit.ENTRY if 5 in types else Unit.OTHER


class _HEVC:
    """HEVC in hvcC form (ITU-T H.265, 7.3.1.2, 7.3.6.1 and table 7-1; ISO 14496-15, 8.3.3)."""

    OTHER_TYPES = frozenset({35, 38, 39, 40, 62})  # delimiter, filler, SEI, Dolby Vision's metadata
    PARAMETER_TYPES = frozenset({32, 33, 34})
    RADL, RASL = frozenset({6, 7}), frozenset({8, 9})
    BLA = frozenset({16, 17, 18})

    def __init__(self, extradata: bytes) -> None:
        self.length_size = (extradata[21] & 3) + 1
        self.extradata = extradata
        self.started = False
        self.drops_rasl = False  # whether decoders leave out the RASL pictures that follow

    def __call__(self, data: bytes) -> Unit | None:
        if not self.started and _pictures_may_be_hidden(self.extradata):
            return None
        pictures, types = 0, set()
        try:
            for nal in _nal_units(data, self.length_size):
                kind, layer = nal[0] >> 1 & 63, (nal[0] & 1) << 5 | nal[1] >> 3
                if layer:
                    return None
                if kind <= 9 or 16 <= kind <= 21:
                    types.add(kind)
                    pictures += nal[2] >> 7  # first_slice_segment_in_pic_flag
                    if kind >= 16 and nal[2] >> 6 & 1:  # no_output_of_prior_pics_flag
                        return None
                elif kind in self.PARAMETER_TYPES:
                    if nal not in self.extradata:
                        return None
                elif kind not in self.OTHER_TYPES:  # the end of a sequence among them
                    return None
        except ValueError:
            return None
        if pictures != 1 or len(types) != 1:
            return None
        (kind,) = types
        if kind >= 16:
            self.drops_rasl = not self.started or kind in self.BLA
            self.started = True
            return Unit.ENTRY
        if kind in self.RASL and self.drops_rasl:
            return None
        return Unit.LEADING if kind in self.RASL | self.RADL else Unit.OTHER


def _pictures_may_be_hidden(hvcc: bytes) -> bool:
    """Whether a picture parameter set of an hvcC has output_flag_present_flag, or cannot be read."""
    try:
        at = 23
        for _ in range(hvcc[22]):
            kind, count = hvcc[at] & 63, int.from_bytes(hvcc[at + 1 : at + 3], "big")
            at += 3
            for _ in range(count):
                length = int.from_bytes(hvcc[at : at + 2], "big")
                if kind == 34:
                    bits = "".join(f"{byte:08b}" for byte in hvcc[at + 4 : at + 12])
                    bits = _after_exp_golomb(_after_exp_golomb(bits))  # its number and that of the sequence's set
                    if bits[1] == "1":
                        return True
                at += 2 + length
    except (IndexError, ValueError):
        return True
    return False


def _after_exp_golomb(bits: str) -> str:
    zeros = bits.index("1")
    return bits[2 * zeros + 1 :]


def _vp9(data: bytes) -> Unit | None:
    """VP9 (bitstream specification, annex B and section 6.2): one frame, or a superframe of several."""
    sizes = [len(data)]
    if data and data[-1] >> 5 == 0b110:
        count, size_bytes = (data[-1] & 7) + 1, (data[-1] >> 3 & 3) + 1
        index = data[-2 - count * size_bytes :]
        if len(index) == 2 + count * size_bytes and index[0] == data[-1]:
            sizes = [int.from_bytes(index[1 + n * size_bytes :][:size_bytes], "little") for n in range(count)]
    at, shown, key = 0, 0, False
    for size in sizes:
        frame = data[at : at + size]
        at += size
        if not frame or frame[0] >> 6 != 0b10:
            return None
        bits = f"{frame[0]:08b}"[2:]
        bits = bits[3:] if bits[:2] == "11" else bits[2:]  # profile 3 has a reserved bit
        if bits[0] == "1":  # show_existing_frame
            shown += 1
        else:
            key = bits[1] == "0"
            shown += bits[2] == "1"
    if shown != 1:
        return None
    return Unit.ENTRY if key and len(sizes) == 1 else Unit.OTHER


class _AV1:
    """AV1 (bitstream specification, sections 5.3 to 5.9): a temporal unit of one layer."""

    SEQUENCE, DELIMITER, FRAME_HEADER, TILES, METADATA, FRAME, PADDING = 1, 2, 3, 4, 5, 6, 15

    def __init__(self) -> None:
        self.sequence: bytes | None = None

    def __call__(self, data: bytes) -> Unit | None:
        at, frames, shown, key = 0, 0, 0, False
        while at < len(data):
            kind, extended, sized = data[at] >> 3 & 15, data[at] >> 2 & 1, data[at] >> 1 & 1
            if extended or not sized:
                return None
            length, at = _leb128(data, at + 1)
            unit = data[at : at + length]
            at += length
            if at > len(data):
                return None
            if kind == self.SEQUENCE:
                self.sequence = self.sequence or unit
                if unit != self.sequence or not unit or unit[0] >> 3 & 1:  # reduced_still_picture_header
                    return None
            elif kind in (self.FRAME_HEADER, self.FRAME):
                if not unit or self.sequence is None:
                    return None
                frames += 1
                if unit[0] >> 7:  # show_existing_frame
                    shown += 1
                else:
                    key = unit[0] >> 5 & 3 == 0
                    shown += unit[0] >> 4 & 1
            elif kind not in (self.DELIMITER, self.TILES, self.METADATA, self.PADDING):
                return None
        if shown != 1:
            return None
        return Unit.ENTRY if key and frames == 1 else Unit.OTHER


def _leb128(data: bytes, at: int) -> tuple[int, int]:
    """A number and where it ends."""
    value = 0
    for count, byte in enumerate(data[at : at + 8]):
        value |= (byte & 127) << 7 * count
        if not byte >> 7:
            return value, at + count + 1
    return len(data) + 1, at
