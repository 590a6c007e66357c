"""Read from the packets of a coded video which pictures a decoder will give.

The exact reader may skip a part of a file only if every packet holds exactly one picture that is shown, if none is
missing, and if decoding may begin in the middle. For H.264, HEVC, VP9 and AV1, the first bits of each packet show this.
The functions of this module look at the packets one after another and return None for anything else: then the file is
decoded from its start.
"""

from collections.abc import Callable, Iterator
from enum import Enum, auto
from typing import NamedTuple

from vqathinker_verl.frames.bits import Bits


class Kind(Enum):
    """What a packet with exactly one shown picture is to the others."""

    ENTRY = auto()  # no later packet needs an earlier one, except the LEADING ones that follow this packet
    LEADING = auto()  # follows an ENTRY and is shown before it; it may need earlier packets
    OTHER = auto()


class Picture(NamedTuple):
    """A packet with exactly one shown picture.

    Args:
        kind: See there.
        restart: Whether `place` is counted anew from here on.
        place: Its place in the order of showing, as the codec counts; None where packets are in that order.
        modulus: `place` is known up to multiples of this.
    """

    kind: Kind
    restart: bool = False
    place: int | None = None
    modulus: int = 1


Classify = Callable[[bytes], Picture | None]


def classifier(codec: str, extradata: bytes) -> Classify | None:
    """How to look at the packets of a stream, in order; None for a codec whose packets are not understood.

    Args:
        codec: FFmpeg's name of the codec.
        extradata: The stream's header as the container stores it (for MP4: avcC, hvcC, av1C).
    """
    try:
        if codec == "h264":
            return _H264(extradata)
        if codec == "hevc":
            return _HEVC(extradata)
    except ValueError:
        return None
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
        if end > len(data) or end < start + 2:
            raise ValueError("lengths of NAL units that do not fit the packet")
        yield data[start:end]
        at = end


class _H264:
    """H.264 in avcC form (ITU-T H.264, 7.3.2.1 and 7.3.3; ISO 14496-15, 5.3.3).

    Raises:
        ValueError: A header of a kind that is not understood.
    """

    OTHER_TYPES = frozenset({6, 9, 12})  # SEI, delimiter, filler
    PARAMETER_TYPES = frozenset({7, 8})
    HIGH_PROFILES = frozenset({100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135})

    def __init__(self, extradata: bytes) -> None:
        if len(extradata) < 8 or extradata[0] != 1 or extradata[5] & 31 != 1:
            raise ValueError("not an avcC with one sequence parameter set")
        self.length_size = (extradata[4] & 3) + 1
        self.extradata = extradata
        bits = Bits(extradata[9 : 8 + int.from_bytes(extradata[6:8], "big")])
        profile = bits.take(8)
        bits.take(16)
        bits.exp_golomb()  # its number
        separate_planes = 0
        if profile in self.HIGH_PROFILES:
            if bits.exp_golomb() == 3:
                separate_planes = bits.take(1)
            bits.exp_golomb(), bits.exp_golomb()  # bit depths
            bits.take(1)
            if bits.take(1) or separate_planes:
                raise ValueError("scaling matrices or separate planes")
        self.frame_num_bits = bits.exp_golomb() + 4
        order_type = bits.exp_golomb()
        self.order_bits = bits.exp_golomb() + 4 if order_type == 0 else 0
        if order_type == 1:
            raise ValueError("pic_order_cnt_type 1")
        bits.exp_golomb()  # reference frames
        if bits.take(1):
            raise ValueError("gaps in frame_num")
        bits.exp_golomb(), bits.exp_golomb()  # width, height
        self.frames_only = bits.take(1)
        self.last_reference = 0

    def __call__(self, data: bytes) -> Picture | None:
        first, types = None, set()
        try:
            for nal in _nal_units(data, self.length_size):
                kind = nal[0] & 31
                if kind in (1, 5):
                    types.add(kind)
                    if nal[1] >> 7:  # first_mb_in_slice is 0: the first slice of a picture or field
                        if first is not None:
                            return None
                        first = nal
                elif kind in self.PARAMETER_TYPES:
                    if nal not in self.extradata:  # a new size, or settings that a skipped packet brings
                        return None
                elif kind not in self.OTHER_TYPES:
                    return None
            if first is None or len(types) != 1:
                return None
            return self._picture(first, idr=5 in types)
        except ValueError:
            return None

    def _picture(self, nal: bytes, idr: bool) -> Picture | None:
        bits = Bits(nal[1:40])
        bits.exp_golomb(), bits.exp_golomb(), bits.exp_golomb()  # first_mb_in_slice, slice_type, parameter set
        frame_num = bits.take(self.frame_num_bits)
        if frame_num != (0 if idr else (self.last_reference + 1) % (1 << self.frame_num_bits)):
            return None  # a reference frame is missing
        if nal[0] >> 5 & 3:  # nal_ref_idc
            self.last_reference = frame_num
        if not self.frames_only and bits.take(1):
            return None  # a field
        if idr:
            bits.exp_golomb()
        kind = Kind.ENTRY if idr else Kind.OTHER
        if not self.order_bits:
            return Picture(kind, idr)
        return Picture(kind, idr, bits.take(self.order_bits), 1 << self.order_bits)


class _HEVC:
    """HEVC in hvcC form (ITU-T H.265, 7.3.2.2, 7.3.2.3, 7.3.6.1 and table 7-1; ISO 14496-15, 8.3.3).

    Raises:
        ValueError: A header of a kind that is not understood.
    """

    OTHER_TYPES = frozenset({35, 38, 39, 40, 62})  # delimiter, filler, SEI, Dolby Vision's metadata
    PARAMETER_TYPES = frozenset({32, 33, 34})
    RADL, RASL = frozenset({6, 7}), frozenset({8, 9})
    BLA, IDR = frozenset({16, 17, 18}), frozenset({19, 20})

    def __init__(self, extradata: bytes) -> None:
        if len(extradata) < 23 or extradata[0] != 1:
            raise ValueError("not an hvcC")
        self.length_size = (extradata[21] & 3) + 1
        self.extradata = extradata
        self.extra_bits: dict[int, int] = {}  # of slice headers, by picture parameter set
        sequences = []
        for kind, nal in _hvcc_units(extradata):
            if kind == 33:
                sequences.append(nal)
            elif kind == 34:
                bits = Bits(nal[2:])
                number = bits.exp_golomb()
                bits.exp_golomb()
                bits.take(1)
                if bits.take(1):
                    raise ValueError("output_flag_present_flag: pictures may be hidden")
                self.extra_bits[number] = bits.take(3)
        if len(sequences) != 1:
            raise ValueError("not one sequence parameter set")
        self.order_bits = self._order_bits(sequences[0])
        self.started = False
        self.drops_rasl = False  # whether decoders leave out the RASL pictures that follow

    @staticmethod
    def _order_bits(sequence: bytes) -> int:
        bits = Bits(sequence[2:])
        bits.take(4)
        sub_layers = bits.take(3)
        bits.take(1 + 96)
        flags = [(bits.take(1), bits.take(1)) for _ in range(sub_layers)]
        bits.take(2 * (8 - sub_layers) if sub_layers else 0)
        for profile, level in flags:
            bits.take(88 * profile + 8 * level)
        bits.exp_golomb()
        if bits.exp_golomb() == 3 and bits.take(1):
            raise ValueError("separate planes")
        bits.exp_golomb(), bits.exp_golomb()  # width, height
        if bits.take(1):
            for _ in range(4):
                bits.exp_golomb()
        bits.exp_golomb(), bits.exp_golomb()  # bit depths
        return bits.exp_golomb() + 4

    def __call__(self, data: bytes) -> Picture | None:
        first, types = None, set()
        try:
            for nal in _nal_units(data, self.length_size):
                kind, layer = nal[0] >> 1 & 63, (nal[0] & 1) << 5 | nal[1] >> 3
                if layer:
                    return None
                if kind <= 9 or 16 <= kind <= 21:
                    types.add(kind)
                    if len(nal) < 3:
                        return None
                    if nal[2] >> 7:  # first_slice_segment_in_pic_flag
                        if first is not None:
                            return None
                        first = nal
                elif kind in self.PARAMETER_TYPES:
                    if nal not in self.extradata:
                        return None
                elif kind not in self.OTHER_TYPES:  # the end of a sequence among them
                    return None
            if first is None or len(types) != 1:
                return None
            return self._picture(first, *types)
        except (ValueError, KeyError):
            return None

    def _picture(self, nal: bytes, kind: int) -> Picture | None:
        bits = Bits(nal[2:40])
        bits.take(1)
        if kind >= 16 and bits.take(1):  # no_output_of_prior_pics_flag
            return None
        bits.take(self.extra_bits[bits.exp_golomb()])
        bits.exp_golomb()  # slice_type
        place = 0 if kind in self.IDR else bits.take(self.order_bits)
        if kind >= 16:
            self.drops_rasl = not self.started or kind in self.BLA
            restart = not self.started or kind in self.BLA | self.IDR
            self.started = True
            return Picture(Kind.ENTRY, restart, place, 1 << self.order_bits)
        if kind in self.RASL and self.drops_rasl:
            return None
        leading = kind in self.RASL | self.RADL
        return Picture(Kind.LEADING if leading else Kind.OTHER, False, place, 1 << self.order_bits)


def _hvcc_units(hvcc: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and content of the NAL units in an hvcC.

    Raises:
        ValueError: It is cut off.
    """
    try:
        at = 23
        for _ in range(hvcc[22]):
            kind, count = hvcc[at] & 63, int.from_bytes(hvcc[at + 1 : at + 3], "big")
            at += 3
            for _ in range(count):
                length = int.from_bytes(hvcc[at : at + 2], "big")
                yield kind, hvcc[at + 2 : at + 2 + length]
                at += 2 + length
    except IndexError as error:
        raise ValueError("an hvcC that is cut off") from error


def _vp9(data: bytes) -> Picture | None:
    """VP9 (bitstream specification, annex B and section 6.2): one frame, or a superframe of several."""
    sizes = [len(data)]
    if data and data[-1] >> 5 == 0b110:
        count, size_bytes = (data[-1] & 7) + 1, (data[-1] >> 3 & 3) + 1
        index = data[-2 - count * size_bytes :]
        if len(index) == 2 + count * size_bytes and index[0] == data[-1]:
            sizes = [int.from_bytes(index[1 + n * size_bytes :][:size_bytes], "little") for n in range(count)]
    at, shown, key = 0, 0, False
    for size in sizes:
        bits = Bits(data[at : at + min(size, 4)])
        at += size
        try:
            if bits.take(2) != 0b10:
                return None
            if bits.take(2) == 0b11:  # profile 3 has a reserved bit
                bits.take(1)
            if bits.take(1):  # show_existing_frame
                shown += 1
            else:
                key = not bits.take(1)
                shown += bits.take(1)
        except ValueError:
            return None
    if shown != 1:
        return None
    return Picture(Kind.ENTRY if key and len(sizes) == 1 else Kind.OTHER)


class _AV1:
    """AV1 (bitstream specification, sections 5.3 to 5.9): a temporal unit of one layer."""

    SEQUENCE, DELIMITER, FRAME_HEADER, TILES, METADATA, FRAME, PADDING = 1, 2, 3, 4, 5, 6, 15

    def __init__(self) -> None:
        self.sequence: bytes | None = None

    def __call__(self, data: bytes) -> Picture | None:
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
        return Picture(Kind.ENTRY if key and frames == 1 else Kind.OTHER)


def _leb128(data: bytes, at: int) -> tuple[int, int]:
    """A number and where it ends; one larger than the data where it does not end."""
    value = 0
    for count, byte in enumerate(data[at : at + 8]):
        value |= (byte & 127) << 7 * count
        if not byte >> 7:
            return value, at + count + 1
    return len(data) + 1, at
