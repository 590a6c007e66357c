import asyncio
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from helpers.clips import encode

from vqathinker_verl.frames import CacheConfig, FrameCache, FrameSpec, VideoError, cache

SPEC = FrameSpec(6, size=(56, 56))
ONE_VIDEO = 6 * 3 * 56 * 56


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    return [encode(folder / f"{number}.mp4", num_frames=12, height=64, width=64) for number in range(4)]


class TestOneDecode:
    def test_a_batch_decodes_each_video_once(self, videos):
        """4 videos x (8 responses + 4 perturbed) are 4 decodes, not 48."""
        frames = FrameCache(CacheConfig(10 * ONE_VIDEO))
        requests = [video for _ in range(12) for video in videos]
        with ThreadPoolExecutor(16) as executor:
            results = list(executor.map(lambda video: frames.get(video, SPEC), requests))
        assert frames.decodes == len(videos)
        assert frames.hits == len(requests) - len(videos)
        for index, video in enumerate(videos):
            assert len({id(result) for result in results[index::4]}) == 1, video

    def test_the_next_epoch_is_served_from_memory(self, videos):
        frames = FrameCache(CacheConfig(4 * ONE_VIDEO))
        for _ in range(3):
            for video in videos:
                frames.get(video, SPEC)
        assert frames.decodes == 4

    def test_another_spec_is_another_entry(self, videos):
        frames = FrameCache(CacheConfig(10 * ONE_VIDEO))
        assert frames.get(videos[0], SPEC).frames.shape == (6, 3, 56, 56)
        assert frames.get(videos[0], FrameSpec(2, size=(28, 28))).frames.shape == (2, 3, 28, 28)
        assert frames.decodes == 2

    def test_one_file_under_two_spellings(self, videos, monkeypatch):
        frames = FrameCache(CacheConfig(10 * ONE_VIDEO))
        monkeypatch.chdir(videos[0].parent)
        assert frames.get("0.mp4", SPEC) is frames.get(str(videos[0]), SPEC)
        assert frames.decodes == 1


class TestDecodeAhead:
    def test_what_is_asked_for_later_is_there(self, videos):
        frames = FrameCache(CacheConfig(10 * ONE_VIDEO))
        asyncio.run(frames.decode_ahead([(str(video), SPEC) for video in videos]))
        assert (frames.decodes, frames.hits) == (4, 0)
        for video in videos:
            frames.get(video, SPEC)
        assert (frames.decodes, frames.hits) == (4, 4)

    @pytest.mark.parametrize(("kept", "decoded"), [(2, 2), (0, 0)])
    def test_no_more_than_can_be_kept(self, videos, kept, decoded):
        frames = FrameCache(CacheConfig(kept * ONE_VIDEO, decoders=1))
        asyncio.run(frames.decode_ahead([(str(video), SPEC) for video in videos]))
        assert frames.decodes == decoded
        assert frames.bytes == kept * ONE_VIDEO

    def test_a_failure_is_raised_where_the_video_is_asked_for(self, videos, tmp_path):
        frames = FrameCache(CacheConfig(10 * ONE_VIDEO))
        missing = str(tmp_path / "missing.mp4")
        asyncio.run(frames.decode_ahead([(missing, SPEC), (str(videos[0]), SPEC)]))
        with pytest.raises(VideoError, match=r"missing\.mp4"):
            frames.get(missing, SPEC)
        assert frames.decodes == 2


class TestConfig:
    def test_decoders_are_a_quarter_of_the_cpus_and_at_least_two(self, monkeypatch):
        for cpus, decoders in ((1, 2), (8, 2), (64, 16)):
            monkeypatch.setattr(os, "sched_getaffinity", lambda _, cpus=cpus: range(cpus))
            assert CacheConfig().workers == decoders
        assert CacheConfig(decoders=5).workers == 5

    def test_as_many_children_as_decoders(self, videos, monkeypatch):
        running, most = [], []

        def slow(path, spec, **_):
            running.append(path)
            most.append(len(running))
            time.sleep(0.05)
            running.pop()
            raise VideoError("no video")

        monkeypatch.setattr(cache, "decode", slow)
        frames = FrameCache(CacheConfig(10 * ONE_VIDEO, decoders=3))
        asyncio.run(frames.decode_ahead([(str(number), SPEC) for number in range(9)]))
        assert max(most) == 3

    def test_the_decoder_of_choice(self, videos):
        pytest.importorskip("decord")
        assert FrameCache(CacheConfig(decoder="decord")).get(videos[0], SPEC).backend == "decord"
        assert FrameCache(CacheConfig()).get(videos[0], SPEC).backend == "pyav"

    @pytest.mark.parametrize(
        ("fields", "complaint"),
        [({"decoders": 0}, "decoders"), ({"decoder": "opencv"}, "decoder"), ({"timeout_seconds": 0}, "timeout")],
    )
    def test_names_the_wrong_field(self, fields, complaint):
        with pytest.raises(ValueError, match=complaint):
            CacheConfig(**fields)


class TestEventLoop:
    def test_the_loop_turns_while_a_video_is_decoded(self, videos, monkeypatch):
        decode, turned = cache.decode, threading.Event()

        def decode_after_the_loop_has_turned(*args, **kwargs):
            assert turned.wait(timeout=30)
            return decode(*args, **kwargs)

        monkeypatch.setattr(cache, "decode", decode_after_the_loop_has_turned)
        frames = FrameCache(CacheConfig(10 * ONE_VIDEO))

        async def run():
            request = asyncio.gather(*[frames.get_async(videos[0], SPEC) for _ in range(8)])
            for _ in range(10):
                await asyncio.sleep(0.001)
            turned.set()
            return await request

        results = asyncio.run(run())
        assert all(result is results[0] for result in results)
        assert frames.decodes == 1

    def test_a_cancelled_caller_does_not_cancel_the_others(self, videos, monkeypatch):
        decode = cache.decode
        monkeypatch.setattr(cache, "decode", lambda *args, **kwargs: time.sleep(0.2) or decode(*args, **kwargs))
        frames = FrameCache(CacheConfig(10 * ONE_VIDEO, decoders=1))

        async def run():
            first = asyncio.ensure_future(frames.get_async(videos[0], SPEC))
            second = asyncio.ensure_future(frames.get_async(videos[0], SPEC))
            await asyncio.sleep(0.05)
            first.cancel()
            return await second

        assert asyncio.run(run()).frames.shape == (6, 3, 56, 56)
        assert frames.decodes == 1


class TestBound:
    def test_least_recently_used_goes_first(self, videos):
        frames = FrameCache(CacheConfig(2 * ONE_VIDEO))
        a, b, c, _ = videos
        for video in (a, b, a, c):  # c takes the place of b
            frames.get(video, SPEC)
            assert frames.bytes <= 2 * ONE_VIDEO
        assert frames.decodes == 3
        frames.get(a, SPEC)
        assert frames.decodes == 3
        frames.get(b, SPEC)
        assert frames.decodes == 4
        assert frames.bytes == 2 * ONE_VIDEO

    def test_a_video_beyond_the_bound_is_handed_out_and_not_kept(self, videos):
        frames = FrameCache(CacheConfig(ONE_VIDEO - 1))
        assert frames.get(videos[0], SPEC).nbytes == ONE_VIDEO
        assert frames.bytes == 0
        frames.get(videos[0], SPEC)
        assert frames.decodes == 2

    def test_a_large_video_does_not_empty_the_cache(self, videos):
        frames = FrameCache(CacheConfig(2 * ONE_VIDEO))
        frames.get(videos[0], SPEC)
        frames.get(videos[1], FrameSpec(60, size=(56, 56)))
        assert frames.bytes == ONE_VIDEO

    def test_negative(self):
        with pytest.raises(ValueError, match="max_bytes"):
            FrameCache(CacheConfig(-1))


class TestErrors:
    def test_all_waiting_callers_get_the_error_and_the_others_are_served(self, videos, tmp_path):
        frames = FrameCache(CacheConfig(10 * ONE_VIDEO))
        requests = [*videos, tmp_path / "absent.mp4"] * 8

        def get(path):
            try:
                return frames.get(path, SPEC)
            except VideoError as error:
                return str(error)

        with ThreadPoolExecutor(8) as executor:
            results = list(executor.map(get, requests))
        assert all("absent.mp4" in result for result in results[4::5])
        assert sum(isinstance(result, str) for result in results) == 8
        assert frames.decodes == 5  # the broken one is tried once, too

    def test_a_failure_is_forgotten_in_time(self, videos, tmp_path):
        frames = FrameCache(CacheConfig(10 * ONE_VIDEO, error_seconds=0.2))
        path = tmp_path / "late.mp4"
        for _ in range(2):
            with pytest.raises(VideoError):
                frames.get(path, SPEC)
        assert frames.decodes == 1
        path.write_bytes(videos[0].read_bytes())
        time.sleep(0.25)
        assert frames.get(path, SPEC).total_frames == 12

    def test_a_pipe_does_not_hold_up_the_batch(self, videos, tmp_path):
        os.mkfifo(tmp_path / "pipe.mp4")
        frames = FrameCache(CacheConfig(10 * ONE_VIDEO, decoders=1))
        with pytest.raises(VideoError, match="not a regular file"):
            frames.get(tmp_path / "pipe.mp4", SPEC)
        assert frames.get(videos[0], SPEC).total_frames == 12

    def test_a_slow_video_costs_one_time_limit(self, videos, monkeypatch):
        blocked = threading.Event()
        calls = []

        def hang(path, spec, timeout_seconds, decoder):
            calls.append(path)
            blocked.wait(timeout_seconds)
            raise VideoError(f"{path}: decoding took longer than {timeout_seconds} s")

        monkeypatch.setattr(cache, "decode", hang)
        frames = FrameCache(CacheConfig(ONE_VIDEO, timeout_seconds=0.3))
        start = time.monotonic()
        for _ in range(8):
            with pytest.raises(VideoError, match="took longer"):
                frames.get(videos[0], SPEC)
        assert len(calls) == 1
        assert time.monotonic() - start < 2
