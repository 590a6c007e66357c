"""What the first bits of a packet say: written by hand, bit by bit."""

import pytest

from vqathinker_verl.frames.access_units import Kind, classifier
from vqathinker_verl.frames.bits import Bits


def packed(bits):
    """Bits, with spaces between fields, as bytes; padded with ones."""
    bits = bits.replace(" ", "")
    bits += "1" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


def nal(data):
    return len(data).to_bytes(4, "big") + data


class TestBits:
    def test_numbers(self):
        bits = Bits(packed("101 1 010 011 00100 00110"))
        assert bits.take(3) == 5
        assert [bits.exp_golomb() for _ in range(5)] == [0, 1, 2, 3, 5]

    def test_protection_from_start_codes_is_taken_out(self):
        assert Bits(b"\0\0\3\1").take(24) == 1

    def test_beyond_the_end(self):
        for read in (lambda bits: bits.take(9), lambda bits: bits.exp_golomb()):
            with pytest.raises(ValueError, match="ends early"):
                read(Bits(b"\0"))


class TestH264:
    # Baseline, level 3; set 0; 4 bits of frame_num; order type 0 with 4 bits; 1 reference; no gaps; 8x6 blocks; frames.
    SEQUENCE = b"\x67" + packed("01000010 00000000 00011110 1 1 1 1 010 0 0001000 00110 1 1 0 0 1")
    HEADER = b"\1\x42\0\x1e\xff\xe1" + len(SEQUENCE).to_bytes(2, "big") + SEQUENCE + b"\1\0\1\x68"

    def slices(self, *fields):
        """Pictures of one slice: first_mb_in_slice 0, slice_type, parameter set 0, then these bits."""
        look = classifier("h264", self.HEADER)
        return [look(nal(bytes([kind]) + packed("1 1 1 " + bits))) for kind, bits in fields]

    def test_places_and_entries(self):
        entry, reference, other = self.slices((0x65, "0000 1 0000"), (0x41, "0001 0100"), (0x01, "0010 0010"))
        assert entry[:3] == (Kind.ENTRY, True, 0)
        assert reference[:3] == (Kind.OTHER, False, 4)
        assert other == (Kind.OTHER, False, 2, 16)

    def test_a_missing_reference_frame(self):
        assert self.slices((0x65, "0000 1 0000"), (0x41, "0010 0100"))[1] is None

    def test_two_pictures_in_a_packet(self):
        look = classifier("h264", self.HEADER)
        one = nal(b"\x65" + packed("1 1 1 0000 1 0000"))
        assert look(one + one) is None

    @pytest.mark.parametrize("data", [b"", nal(b"\x65\xff\xff")[:-1], nal(b"\x74\xff\xff"), nal(b"\x0a\x00")])
    def test_other_packets(self, data):
        """Empty, with a length that does not fit, of a second view, with the end of a sequence."""
        assert classifier("h264", self.HEADER)(data) is None

    def test_another_parameter_set(self):
        entry = nal(b"\x65" + packed("1 1 1 0000 1 0000"))
        assert classifier("h264", self.HEADER)(nal(self.SEQUENCE) + entry).kind is Kind.ENTRY
        assert classifier("h264", self.HEADER)(nal(self.SEQUENCE[:-1] + b"\0") + entry) is None

    @pytest.mark.parametrize("header", [b"", b"\0\0\0\1\x67\x42\0\x1e", HEADER[:9]])
    def test_headers_that_are_not_understood(self, header):
        assert classifier("h264", header) is None


class TestVP9:
    KEY, INTER, HIDDEN, EXISTING = (
        packed(bits) for bits in ("10 00 0 0 1 0", "10 00 0 1 1 0", "10 00 0 1 0 0", "10 00 1")
    )

    def superframe(self, *frames):
        marker = bytes([0b110_00_000 | len(frames) - 1])
        return b"".join(frames) + marker + bytes(len(frame) for frame in frames) + marker

    def test_frames(self):
        look = classifier("vp9", b"")
        assert look(self.KEY).kind is Kind.ENTRY
        assert look(self.INTER).kind is Kind.OTHER
        assert look(self.EXISTING).kind is Kind.OTHER
        assert look(self.superframe(self.HIDDEN, self.INTER)).kind is Kind.OTHER

    def test_not_exactly_one_shown(self):
        look = classifier("vp9", b"")
        assert look(self.HIDDEN) is None
        assert look(self.superframe(self.INTER, self.INTER)) is None
        assert look(b"\0") is None
        assert look(b"") is None


class TestAV1:
    SEQUENCE = b"\x0a\x02\0\0"

    def unit(self, bits):
        return b"\x12\0" + self.SEQUENCE + b"\x32\x01" + packed(bits)

    def test_frames(self):
        look = classifier("libdav1d", b"")
        assert look(self.unit("0 00 1")).kind is Kind.ENTRY
        assert look(self.unit("0 01 1")).kind is Kind.OTHER
        assert look(self.unit("1")).kind is Kind.OTHER

    @pytest.mark.parametrize(
        "data", [b"\x32\x01\x10", b"\x12\0" + SEQUENCE, b"\x12\0" + SEQUENCE + b"\x32\x05\x10", b"\x36\0\x01\x10"]
    )
    def test_no_sequence_no_frame_cut_off_or_layered(self, data):
        assert classifier("libdav1d", b"")(data) is None

    def test_hidden(self):
        assert classifier("libdav1d", b"")(self.unit("0 01 0")) is None


def test_other_codecs_are_not_understood():
    for codec in ("mpeg4", "mpeg2video", "vp8", "wmv2"):
        assert classifier(codec, b"") is None
