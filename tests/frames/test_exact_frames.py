"""Frame k is the k-th picture that a player shows, for videos of every kind and with every decoder."""

import sys
from pathlib import Path

import av
import numpy as np
import pytest
from helpers import corpus

from vqathinker_verl.frames import FrameSpec, decode, probe, segment_centres
from vqathinker_verl.frames.container import open_video
from vqathinker_verl.frames.decoding import decode_here, read_info
from vqathinker_verl.frames.scan import scan

COUNTS = (6, 8, 12, 22)
CASES = Path(__file__).parents[1] / "data" / "video"

# First and last number shown, where that is not 0 and 149.
SHOWN = {
    "h264_start_cut.mp4": (38, 149),
    "h264_open_start_cut.mp4": (62, 149),
    "h264_start_cut.mov": (25, 149),
    "hevc_start_cut.mp4": (38, 149),
    "hevc_open_start_cut.mp4": (62, 149),
    "mpeg4_start_cut.mp4": (38, 149),
    "vp9_start_cut.mp4": (38, 149),
    "h264_end_cut.mp4": (0, 80),
    "h264_both_cut.mp4": (38, 112),
    "h264_end_hidden.mp4": (0, 82),
    "hevc_end_hidden.mp4": (0, 82),
    "h264_both_hidden.mp4": (38, 87),
    "h264_start_cut.mkv": (25, 149),
    "h264_negative_start.mkv": (25, 149),
    "hevc_open_cut_at_cra.mkv": (50, 149),
    "hevc_open_cut_at_cra.ts": (50, 149),
    "h264_open_cut.mkv": (50, 149),
    "short.mp4": (0, 2),
    "short.mkv": (0, 4),
    "one.mp4": (0, 0),
}
# Files of which the packets prove the pictures, with the places at which decoding may begin.
ENTRIES = {
    "h264_closed.mp4": 6, "h264_closed.mkv": 6, "h264_closed_fragmented.mp4": 6, "h264_intra.mp4": 150,
    "h264_open.mp4": 1, "h264_intra_refresh.mp4": 1, "hevc_open.mp4": 6, "hevc_open.mkv": 6, "hevc_closed.mp4": 6,
    "vp9.webm": 6, "vp9_alt_ref.webm": 5, "av1.mp4": 6, "av1_open.mkv": 1, "h264_vfr.mkv": 6,
}  # fmt: skip
# Files of which they do not.
UNPROVED = (
    "h264_closed.ts", "h264_closed.avi", "h264_closed.flv", "mpeg2.mpg", "mpeg4_b.mp4", "wmv2.wmv", "vp8.webm",
    "h264_start_cut.mp4", "h264_end_hidden.mp4", "h264_open_cut.mkv", "hevc_open_cut_at_cra.mkv", "changing_size.mkv",
)  # fmt: skip
DECORD_IS_EXACT = (
    "h264_closed.mp4", "h264_closed.mkv", "h264_intra.mp4", "h264_no_b.mp4", "hevc_closed.mp4", "wide_pixels.mp4",
    "rotated_90.mp4",
)  # fmt: skip


class Clip:
    """A file of the corpus and the truth about it."""

    def __init__(self, path):
        self.path = str(path)
        frames = corpus.sequential(path)
        self.turns = round(frames[0].rotation / 90) % 4
        self.pictures = [np.rot90(frame.to_ndarray(format="rgb24"), self.turns) for frame in frames]
        self.numbers = [corpus.number_of(np.rot90(picture, -self.turns)) for picture in self.pictures]


@pytest.fixture(scope="module")
def clip_of(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    made = {}

    def make(name):
        if name not in made:
            made.clear()  # tests of one file follow one another
            corpus.CORPUS[name](folder / name)
            made[name] = Clip(folder / name)
        return made[name]

    return make


def check(clip, decoder, counts=COUNTS):
    """Every frame shown is the one asked for; the backends that decoded."""
    info = read_info(clip.path)
    assert info.total_frames == len(clip.pictures)
    backends = set()
    for count in counts:
        wanted = segment_centres(len(clip.pictures), count)
        first = clip.pictures[0].shape[:2]
        video = decode_here(clip.path, FrameSpec(count, size=first), decoder)
        assert video.total_frames == info.total_frames
        assert video.fps == info.fps
        assert video.indices.tolist() == wanted.tolist()
        for frame, index in zip(video.frames.transpose(0, 2, 3, 1), wanted, strict=True):
            assert corpus.number_of(np.rot90(frame, -clip.turns)) == clip.numbers[index]
            if clip.pictures[index].shape[:2] == first:
                difference = np.abs(frame.astype(int) - clip.pictures[index]).max()
                assert difference <= (0 if video.backend == "pyav" else 1)
        backends.add(video.backend)
    return backends


@pytest.mark.parametrize("name", corpus.CORPUS)
class TestCorpus:
    def test_the_pictures_carry_their_numbers(self, clip_of, name):
        """What the other tests compare with is right itself."""
        numbers = clip_of(name).numbers
        assert corpus.ascending(numbers)
        assert (numbers[0], numbers[-1]) == SHOWN.get(name, (0, corpus.NUM_FRAMES - 1))

    def test_every_frame_is_the_one_asked_for(self, clip_of, name, monkeypatch):
        monkeypatch.setitem(sys.modules, "decord", None)
        assert check(clip_of(name), "auto") == {"pyav"}

    def test_with_decord(self, clip_of, name):
        pytest.importorskip("decord")
        backends = check(clip_of(name), "decord", COUNTS[:1])
        if backends == {"decord"}:  # else PyAV took over, as in the test above
            assert check(clip_of(name), "decord", COUNTS[1:]) == {"decord"}
        else:
            assert name not in DECORD_IS_EXACT

    def test_places_to_begin_at(self, clip_of, name):
        container, stream = open_video(clip_of(name).path)
        with container:
            entries = scan(clip_of(name).path, container, stream).entries
        if name in ENTRIES:
            assert len(entries) == ENTRIES[name]
        if name in UNPROVED:
            assert entries == []


LOSSY = (
    "h264_closed.mp4", "h264_no_b.mp4", "h264_open.mkv", "hevc_open.mp4", "hevc_closed.mp4", "hevc_default.mkv",
    "vp9.webm",
)  # fmt: skip


@pytest.mark.parametrize("name", LOSSY)
@pytest.mark.parametrize(("seed", "share"), [(0, 0.02), (1, 0.1)])
def test_lost_packets_do_not_shift_the_others(tmp_path, name, seed, share):
    """Where packets are missing, decoders leave out further pictures: there are fewer of them than packets."""
    whole, path = tmp_path / f"whole_{name}", tmp_path / name
    corpus.CORPUS[name](whole)
    rng = np.random.default_rng(seed)
    with av.open(str(whole)) as read, av.open(str(path), "w") as written:
        stream = written.add_stream_from_template(read.streams.video[0])
        for number, packet in enumerate(read.demux(read.streams.video[0])):
            if packet.size and (number == 0 or rng.random() > share):
                packet.stream = stream
                written.mux(packet)
    pictures = [frame.to_ndarray(format="rgb24") for frame in corpus.sequential(path)]
    assert read_info(str(path)).total_frames == len(pictures)
    for count in COUNTS:
        video = decode_here(str(path), FrameSpec(count, size=(corpus.HEIGHT, corpus.WIDTH)))
        assert video.indices.tolist() == segment_centres(len(pictures), count).tolist()
        for frame, index in zip(video.frames.transpose(0, 2, 3, 1), video.indices, strict=True):
            assert (frame == pictures[index]).all()


def test_names_are_of_the_corpus():
    assert len(corpus.CORPUS) >= 40
    assert {*SHOWN, *ENTRIES, *UNPROVED, *DECORD_IS_EXACT, *LOSSY} <= set(corpus.CORPUS)


class TestFilesFromTheField:
    """Each was shown wrongly, or refused, by a decoder that seeks to packets marked as key frames."""

    @pytest.mark.parametrize(
        ("name", "total_frames", "fps", "size"),
        [
            ("x265_def600.mkv", 600, 60, (240, 320)),  # libx265's defaults: open GOPs
            ("trimmed.mp4", 120, 30, (240, 320)),  # ffmpeg -ss 1 -c copy: an edit list hides 30 pictures
            ("trimmed_10bit.mp4", 120, 30, (240, 320)),
            ("two.mp4", 90, 30, (240, 320)),  # the smaller of two streams comes first
        ],
    )
    @pytest.mark.parametrize("decoder", ["auto", "decord"])
    def test_count_rate_size_and_frames(self, name, total_frames, fps, size, decoder):
        path = CASES / name
        info = probe(path)
        assert (info.total_frames, info.fps, info.height, info.width) == (total_frames, fps, *size)
        pictures = [frame.to_ndarray(format="rgb24") for frame in corpus.sequential(path)]
        for count in COUNTS:
            video = decode(path, FrameSpec(count, size=size), decoder=decoder)
            assert video.indices.tolist() == segment_centres(total_frames, count).tolist()
            for frame, index in zip(video.frames.transpose(0, 2, 3, 1), video.indices, strict=True):
                assert (frame == pictures[index]).all()
