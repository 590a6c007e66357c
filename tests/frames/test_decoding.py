import os
import socket
import sys
import time
from fractions import Fraction

import av
import numpy as np
import pytest
from av.stream import Disposition
from helpers import corpus
from helpers.clips import CLIPS, HEIGHT, NUM_FRAMES, WIDTH, encode, scene
from PIL import Image

from vqathinker_verl.frames import FrameSpec, VideoError, decode, probe, segment_centres
from vqathinker_verl.frames.container import resized as resize
from vqathinker_verl.frames.decoding import decode_here

pytest.importorskip("decord")

# Videos that decord's FFmpeg cannot decode, or not to the same pixels; PyAV decodes them.
ONLY_PYAV = {
    "av1.mp4", "h264_10bit.mp4", "hevc_10bit.mp4", "odd_444.mp4", "vp9.webm", "vp9_odd.webm", "odd_width.webm",
}  # fmt: skip
NATIVE = FrameSpec(6, size=(HEIGHT, WIDTH))


@pytest.mark.parametrize("name", CLIPS)
class TestBothBackends:
    def test_equal_frames(self, clip, name):
        path = clip(name)
        spec = FrameSpec(6)
        first = decode(path, spec, decoder="decord")
        assert first.backend == ("pyav" if name in ONLY_PYAV else "decord")
        second = decode(path, spec)
        assert second.backend == "pyav"
        assert np.abs(first.frames.astype(int) - second.frames).max() <= 1
        assert first.indices.tolist() == second.indices.tolist()
        assert first.total_frames == second.total_frames
        assert first.fps == second.fps

    def test_the_frames_asked_for(self, clip, name):
        """Every frame of the scene has its own blue level, which tells its place."""
        path = clip(name)
        video = decode(path, FrameSpec(6))
        num_frames = CLIPS[name].get("num_frames", NUM_FRAMES)
        assert video.total_frames == num_frames
        assert video.indices.tolist() == segment_centres(num_frames, 6).tolist()
        blue = np.array([frame[2].mean() for frame in video.frames])
        assert np.abs(blue - (20 + 5 * video.indices)).max() < 2.5

    def test_probe_agrees_with_the_frames(self, clip, name):
        path = clip(name)
        info = probe(path)
        video = decode(path, FrameSpec(6))
        assert info.total_frames == video.total_frames
        assert info.fps == video.fps
        with av.open(str(path)) as container:
            frame = next(container.decode(video=0))
        upright = (frame.width, frame.height) if abs(frame.rotation) == 90 else (frame.height, frame.width)
        assert (info.height, info.width) == upright
        assert video.frames.shape == (6, 3, *FrameSpec(6).target_size(info.height, info.width))


class TestChoiceOfDecoder:
    @pytest.mark.parametrize("decoder", ["auto", "pyav"])
    def test_decord_need_not_be_there(self, clip, monkeypatch, decoder):
        monkeypatch.setitem(sys.modules, "decord", None)
        assert decode_here(str(clip("h264_intra.mp4")), NATIVE, decoder).backend == "pyav"

    def test_decord_that_is_asked_for_must_be_there(self, clip, monkeypatch):
        monkeypatch.setitem(sys.modules, "decord", None)
        with pytest.raises(ImportError, match="decord"):
            decode_here(str(clip("h264_intra.mp4")), NATIVE, "decord")

    def test_pyav_takes_over_with_a_log_line(self, clip, caplog):
        with caplog.at_level("INFO"):
            assert decode(clip("av1.mp4"), NATIVE, decoder="decord").backend == "pyav"
        assert "av1.mp4: decord is not exact for it; decoded with PyAV" in caplog.text

    def test_unknown(self, clip):
        with pytest.raises(ValueError, match="expected one of auto, pyav, decord, got 'opencv'"):
            decode(clip("h264_intra.mp4"), NATIVE, decoder="opencv")


class TestRate:
    """total_frames / fps is how long the video is shown."""

    @pytest.mark.parametrize(
        ("name", "seconds"),
        [
            ("h264_intra.mp4", 40 / 25),
            ("h264_b_frames.mkv", 40 / 25),
            ("variable_rate.mp4", (39 * 40 + 0 + 40) / 1000),  # the last lasts as the file says, here as the others do
            ("variable_rate_gap.mp4", (39 * 40 + 900 + 40) / 1000),
            ("one_frame.mp4", 1 / 25),
        ],
    )
    def test_is_that_of_the_time_stamps(self, clip, name, seconds):
        info = probe(clip(name))
        assert info.total_frames / info.fps == pytest.approx(seconds, abs=0.025)

    def test_stated_rate_of_integer_milliseconds(self, clip):
        """Matroska rounds 1/30 s to 33 ms; the rate is 30 all the same."""
        assert probe(clip("h264_30.mkv")).fps == 30


class TestShape:
    def test_wide_pixels(self, tmp_path):
        """PAL in 16:9: a player shows 720x576 as 1024x576."""
        path = tmp_path / "wide.mp4"
        corpus.encode(
            path, numbers=range(3), height=576, width=720, options=corpus.CLOSED, sample_aspect_ratio=Fraction(64, 45)
        )
        info = probe(path)
        assert (info.height, info.width) == (576, 1024)
        assert decode(path, FrameSpec(2)).frames.shape[2:] == FrameSpec(2).target_size(576, 1024)

    def test_pixels_are_widened_before_the_rotation(self, tmp_path):
        path = tmp_path / "tall.mp4"
        corpus.encode(path, numbers=range(3), options=corpus.CLOSED, sample_aspect_ratio=Fraction(3, 2), rotation=90)
        info = probe(path)
        assert (info.height, info.width) == (192, 96)

    def test_a_size_that_changes_is_brought_to_the_first(self, tmp_path):
        path = tmp_path / "changing.ts"
        corpus.CORPUS["changing_size.ts"](path)
        info = probe(path)
        assert (info.height, info.width) == (corpus.HEIGHT, corpus.WIDTH)
        video = decode(path, FrameSpec(12, factor=2))
        assert video.frames.shape == (12, 3, corpus.HEIGHT, corpus.WIDTH)
        numbers = [corpus.number_of(frame.transpose(1, 2, 0)) for frame in video.frames]
        assert numbers == segment_centres(corpus.NUM_FRAMES, 12).tolist()

    @pytest.mark.parametrize("name", ["%02d.png", "%02d.jpg", "0[0-9].png", "0*.jpg"])
    def test_a_name_is_no_pattern_of_names(self, tmp_path, name):
        for number in (1, 2):
            Image.fromarray(corpus.picture(number)).save(tmp_path / f"0{number}{name[-4:]}")
        Image.fromarray(corpus.picture(77)).save(tmp_path / name)
        try:
            video = decode(tmp_path / name, FrameSpec(1, size=(corpus.HEIGHT, corpus.WIDTH)))
        except VideoError:
            return
        assert corpus.number_of(video.frames[0].transpose(1, 2, 0)) == 77

    def test_a_cover_picture_is_no_video(self, tmp_path):
        """A cover of a song is no video, and that of a video is not the one to read."""
        for name, numbers in (("song.mp4", []), ("clip.mp4", range(20))):
            with av.open(str(tmp_path / name), "w") as container:
                cover = container.add_stream("mjpeg", rate=1)
                cover.height, cover.width, cover.pix_fmt = 400, 400, "yuvj420p"
                cover.disposition = Disposition.attached_pic
                if numbers:
                    stream = corpus.add_stream(container, "libx264", {})
                container.mux(cover.encode(corpus.as_frame(7, 400, 400)))
                container.mux(cover.encode())
                for number in numbers:
                    container.mux(stream.encode(corpus.as_frame(number)))
                if numbers:
                    container.mux(stream.encode())
        info = probe(tmp_path / "clip.mp4")
        assert (info.total_frames, info.height, info.width) == (20, corpus.HEIGHT, corpus.WIDTH)
        with pytest.raises(VideoError, match=r"song\.mp4: no video stream"):
            probe(tmp_path / "song.mp4")


class TestRotation:
    @pytest.mark.parametrize(("name", "turns"), [("rotated_90.mp4", 3), ("rotated_180.mp4", 2), ("rotated_270.mp4", 1)])
    def test_frames_stand_upright(self, clip, name, turns):
        shape = (WIDTH, HEIGHT) if turns % 2 else (HEIGHT, WIDTH)
        video = decode(clip(name), FrameSpec(1, size=shape))
        expected = np.rot90(list(scene())[video.indices[0]], turns)
        difference = np.abs(video.frames[0].transpose(1, 2, 0).astype(int) - expected).mean()
        assert difference < 5  # what H.264 loses; a wrong turn makes it about 50


class TestResize:
    def test_is_pillows_bicubic_of_the_decoded_frame(self, clip):
        path = clip("h264_intra.mp4")
        native = decode(path, NATIVE).frames
        small = decode(path, FrameSpec(6, size=(56, 84))).frames
        for big, little in zip(native, small, strict=True):
            image = Image.fromarray(big.transpose(1, 2, 0)).resize((84, 56), Image.Resampling.BICUBIC)
            assert (np.asarray(image).transpose(2, 0, 1) == little).all()

    def test_shrinking_does_not_alias(self, tmp_path):
        """A checkerboard of single pixels shrunk tenfold is even grey; without antialiasing it is not."""
        board = (np.indices((280, 280)).sum(axis=0) % 2 * 255).astype(np.uint8)
        resized = resize(np.repeat(board[..., None], 3, axis=2), (28, 28))
        assert resized.std() < 2
        assert abs(resized.mean() - 127.5) < 2

    def test_memory_is_what_the_frames_take(self, clip):
        video = decode(clip("h264_intra.mp4"), FrameSpec(6, size=(448, 448)))
        assert video.frames.dtype == np.uint8
        assert video.nbytes == 6 * 3 * 448 * 448

    def test_frames_are_read_only(self, clip):
        video = decode(clip("h264_intra.mp4"), NATIVE)
        with pytest.raises(ValueError, match="read-only"):
            video.frames[0] = 0
        with pytest.raises(ValueError, match="read-only"):
            video.indices[0] = 0


class TestFrameCountMismatch:
    def cut(self, tmp_path, share):
        """An MP4 whose index states every frame and whose end is missing."""
        whole = encode(tmp_path / "whole.mp4", container_options={"movflags": "faststart"}, options={"g": "10"})
        data = whole.read_bytes()
        path = tmp_path / "cut.mp4"
        path.write_bytes(data[: int(len(data) * share)])
        return path

    @pytest.mark.parametrize("decoder", ["auto", "decord"])
    def test_a_few_frames_short_takes_the_real_ones(self, tmp_path, caplog, decoder):
        path = self.cut(tmp_path, 0.98)
        video = decode(path, FrameSpec(6), decoder=decoder)
        assert 0.9 * NUM_FRAMES <= video.total_frames < NUM_FRAMES
        assert probe(path).total_frames == video.total_frames
        assert video.indices.tolist() == segment_centres(video.total_frames, 6).tolist()
        assert f"states {NUM_FRAMES} frames and has" in caplog.text
        assert str(path) in caplog.text

    @pytest.mark.parametrize("share", [0.5, 0.8])
    def test_cut_off_is_refused(self, tmp_path, share):
        path = self.cut(tmp_path, share)
        for read in (probe, lambda path: decode(path, FrameSpec(6))):
            with pytest.raises(VideoError, match=r"cut\.mp4: the file states 40 frames and has"):
                read(path)

    def test_trimmed_is_not(self, tmp_path):
        """What an edit list hides is not missing."""
        for name in ("h264_both_cut.mp4", "h264_both_hidden.mp4", "long_sound.mkv"):
            corpus.CORPUS[name](tmp_path / name)
            assert probe(tmp_path / name).total_frames >= 50

    def test_cut_off_matroska_is_refused(self, clip, tmp_path):
        """Matroska states no frame count; its stated length tells."""
        data = clip("h264_b_frames.mkv").read_bytes()
        path = tmp_path / "cut.mkv"
        path.write_bytes(data[: len(data) // 2])
        for read in (probe, lambda path: decode(path, FrameSpec(6))):
            with pytest.raises(VideoError, match=r"states 1\.6 s and ends after"):
                read(path)


def stating(data, frames, path):
    """An MP4 whose table of durations counts so many frames."""
    data = bytearray(data)
    at = data.index(b"stts") + 12
    data[at : at + 4] = frames.to_bytes(4, "big")
    path.write_bytes(data)
    return path


class TestBrokenFiles:
    def broken(self, tmp_path, clip):
        whole = clip("h264_b_frames.mp4").read_bytes()
        (tmp_path / "empty.mp4").touch()
        (tmp_path / "text.mp4").write_text("not a video\n" * 100)
        (tmp_path / "no_index.mp4").write_bytes(whole[: len(whole) // 2])
        (tmp_path / "folder.mp4").mkdir()
        os.mkfifo(tmp_path / "pipe.mp4")
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(tmp_path / "socket.mp4"))
        (tmp_path / "device.mp4").symlink_to("/dev/zero")
        (tmp_path / "loop.mp4").symlink_to(tmp_path / "loop.mp4")
        with av.open(str(tmp_path / "sound.mp4"), "w") as container:
            stream = container.add_stream("aac", rate=48000)
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.rate = 48000
            container.mux(stream.encode(frame))
            container.mux(stream.encode())
        names = "empty text no_index folder pipe socket device loop sound absent"
        return [f"{name}.mp4" for name in names.split()]

    def test_each_is_named_and_none_hangs(self, tmp_path, clip):
        for name in self.broken(tmp_path, clip):
            for read in (probe, lambda path: decode(path, FrameSpec(6))):
                start = time.monotonic()
                with pytest.raises(VideoError, match=name):
                    read(tmp_path / name)
                assert time.monotonic() - start < 10, name

    def test_overwritten_middle_is_named(self, tmp_path):
        whole = encode(tmp_path / "whole.mp4", options={"g": "5"}, height=240, width=320)
        data = bytearray(whole.read_bytes())
        middle = len(data) // 2
        data[middle : middle + 8000] = np.random.default_rng(0).bytes(8000)
        path = tmp_path / "overwritten.mp4"
        path.write_bytes(data)
        with pytest.raises(VideoError, match=r"overwritten\.mp4"):
            decode(path, FrameSpec(NUM_FRAMES))

    @pytest.mark.parametrize("name", ["x.yuv", "X.YUV"])
    def test_raw_pictures_are_to_be_converted(self, tmp_path, name):
        path = tmp_path / name
        path.write_bytes(bytes(96 * 128 * 3 // 2 * 4))
        for read in (probe, lambda path: decode(path, FrameSpec(2))):
            with pytest.raises(VideoError, match=r"size and frame rate are not in the file; convert it, .*ffmpeg"):
                read(path)

    def test_tags_in_another_encoding_are_no_fault(self, clip, tmp_path):
        data = clip("h264_b_frames.mp4").read_bytes()
        writer = b"Lavf"  # the tag of who wrote the file
        assert data.count(writer) >= 1
        path = tmp_path / "latin.mp4"
        path.write_bytes(data.replace(writer, b"\xe9\xe8ff"))
        assert probe(path).total_frames == NUM_FRAMES
        assert decode(path, FrameSpec(2)).total_frames == NUM_FRAMES

    @pytest.mark.parametrize("frames", [10**9, 2**32 - 1])
    def test_more_frames_than_bytes(self, clip, tmp_path, frames):
        """decord would make a table of so many entries and abort its process."""
        path = stating(clip("h264_intra.mp4").read_bytes(), frames, tmp_path / "many.mp4")
        for read in (probe, lambda path: decode(path, FrameSpec(2))):
            with pytest.raises(VideoError, match=rf"many\.mp4: states {frames} frames, more than it has bytes"):
                read(path)

    @pytest.mark.parametrize("kind", ["hls", "concat", "dash"])
    def test_a_playlist_does_not_have_another_file_opened(self, clip, tmp_path, kind):
        (tmp_path / "root").mkdir()
        outside = tmp_path / "outside.mp4"
        outside.write_bytes(clip("h264_intra.mp4").read_bytes())
        playlist = {
            "hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{outside}\n#EXT-X-ENDLIST\n",
            "concat": "ffconcat version 1.0\nfile ../outside.mp4\n",
            "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period>'
            f"<AdaptationSet><Representation><BaseURL>{outside}</BaseURL></Representation></AdaptationSet></Period></MPD>",
        }[kind]
        path = tmp_path / "root" / "list.mp4"
        path.write_text(playlist)
        for read in (probe, lambda path: decode(path, FrameSpec(2))):
            with pytest.raises(VideoError, match=r"list\.mp4: cannot be decoded"):
                read(path)

    def test_a_line_of_a_video(self, tmp_path):
        path = encode(tmp_path / "line.mp4", pix_fmt="yuv444p", height=2, width=500, num_frames=2)
        with pytest.raises(VideoError, match=r"line\.mp4: expected an aspect ratio"):
            decode(path, FrameSpec(2, max_pixels=10**5))
        assert decode(path, FrameSpec(2, size=(28, 28))).frames.shape == (2, 3, 28, 28)


def test_needs_no_torch(clip):
    import subprocess

    code = (
        "import sys; from vqathinker_verl.frames import FrameSpec, decode;"
        f"decode({str(clip('h264_intra.mp4'))!r}, FrameSpec(2));"
        "assert not {'torch', 'verl', 'ray', 'vllm'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
