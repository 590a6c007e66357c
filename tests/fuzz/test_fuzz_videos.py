"""Mutated videos through `frames`: the result is a video or an error that names the file, and the process survives."""

import re
import resource
from collections import Counter

import pytest
from helpers.clips import encode
from helpers.mutations import EXTREMES, mutated

from vqathinker_verl.frames import FrameSpec, VideoError, decode, probe

pytest.importorskip("decord")

FRAMES = 20
SPEC = FrameSpec(6, max_pixels=50_000)
SECONDS = 30.0
SEEDS = {
    "b_frames.mp4": {"options": {"bf": "3", "g": "12"}},
    "b_frames.mkv": {"options": {"bf": "3", "g": "12"}},
    "hevc.mp4": {"codec": "libx265", "options": {"x265-params": "log-level=error:pools=1"}},
    "vp9.webm": {"codec": "libvpx-vp9"},
    "mpeg4.avi": {"codec": "mpeg4"},
    "index_first.mp4": {"options": {"g": "1"}, "container_options": {"movflags": "faststart"}},
    "ten_bits.mp4": {"pix_fmt": "yuv420p10le"},
    "mpeg2.ts": {"codec": "mpeg2video"},
    "flv1.flv": {"codec": "flv1"},
    "prores.mov": {"codec": "prores_ks", "pix_fmt": "yuv422p10le"},
    "mjpeg.avi": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
    "raw.y4m": {"codec": "wrapped_avframe"},
}
# Name of a box or chunk -> bytes of it that hold numbers: sizes, durations, counts, places.
NUMBERS = {
    b"tkhd": 96, b"mdhd": 28, b"mvhd": 96, b"stsz": 44, b"stts": 44, b"stsc": 44, b"stco": 44, b"ctts": 44,
    b"elst": 44, b"avc1": 80, b"hvc1": 80, b"hev1": 80, b"avcC": 40, b"strh": 56, b"strf": 44, b"avih": 60,
    b"\x16\x54\xae\x6b": 100, b"\x1f\x43\xb6\x75": 40,
}  # fmt: skip


def absurd_numbers(name, data, rng):
    """Extreme numbers where the container keeps its sizes and counts; for a raw video, in its line of text."""
    if name.endswith(".y4m"):
        side = [b"0", b"1", b"65535", b"1000000000", b"-1"][rng.integers(5)]
        letter = b"WH"[rng.integers(2) :][:1]
        return re.sub(b" " + letter + rb"\d+", b" " + letter + side, data, count=1)
    damaged = bytearray(data)
    found = [(data.find(key) + 4, size) for key, size in NUMBERS.items() if key in data]
    for _ in range(rng.integers(1, 4)):
        if found:
            start, size = found[rng.integers(len(found))]
            at = start + 2 * int(rng.integers(size // 2))
            damaged[at : at + 4] = EXTREMES[rng.integers(len(EXTREMES))]
    return bytes(damaged)


def count_of_frames(name, data, rng):
    """No frames or 10^9 of them, in the MP4's table of durations, in the AVI's header, or by the file's end."""
    frames = [0, 10**9, 2**31 - 1, 2**32 - 1][rng.integers(4)]
    damaged = bytearray(data)
    for key, at, order in (
        (b"stts", 12, "big"),
        (b"stsz", 12, "big"),
        (b"avih", 24, "little"),
        (b"strh", 40, "little"),
    ):
        if key in data:
            place = data.index(key) + at
            damaged[place : place + 4] = frames.to_bytes(4, order)
    return bytes(damaged) if bytes(damaged) != data else data[: min(len(data), 600)]


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("seeds")
    made = {name: encode(folder / name, num_frames=FRAMES, **how) for name, how in SEEDS.items()}
    return {name: path.read_bytes() for name, path in made.items()}


def outcome_of(read, path):
    """What became of a file, in a word; anything but a result or a VideoError that names the file is raised."""
    try:
        result = read(path)
    except VideoError as error:
        if str(path) not in str(error):
            raise  # a failure without a name
        if "took longer" in str(error):
            return "time limit"
        return "decoder killed" if "killed" in str(error) else "refused"
    assert result.total_frames > 0
    assert result.fps > 0
    return "read"


def run(seeds, folder, count):
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcomes = {"probe": Counter(), "decode": Counter()}
    for number in range(count):
        name, how, data = mutated(seeds, number, (absurd_numbers, count_of_frames))
        path = folder / f"{number}_{how}_{name}"
        path.write_bytes(data)
        outcomes["probe"][outcome_of(lambda path: probe(path, timeout_seconds=SECONDS), path)] += 1
        outcomes["decode"][outcome_of(lambda path: decode(path, SPEC, timeout_seconds=SECONDS), path)] += 1
        path.unlink()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) / 1024
    print(f"{count} videos: " + "; ".join(f"{work} {dict(found)}" for work, found in outcomes.items()))
    print(f"this process grew by {grown:.0f} MiB")
    for found in outcomes.values():
        assert sum(found.values()) == count
        # Damage that all survive, or that none does, would test nothing.
        assert found["read"] > count / 20
        assert found["refused"] > count / 20
    assert grown < 200  # what decoders take is taken elsewhere


def test_forty_mutated_videos(seeds, tmp_path):
    run(seeds, tmp_path, 40)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_five_hundred_mutated_videos(seeds, tmp_path):
    run(seeds, tmp_path, 500)
