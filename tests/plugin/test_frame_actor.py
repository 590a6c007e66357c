"""The node's cache as an actor of a real Ray, asked by several worker processes."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from types import SimpleNamespace

import numpy as np
import pytest
import ray

from vqathinker_verl.demo.degradations import encode_h264
from vqathinker_verl.frames import CacheConfig, FrameSpec, VideoError, decode
from vqathinker_verl.plugin import frame_actor as node_frames_module
from vqathinker_verl.plugin.frame_actor import frame_metrics, get_frame_cache, get_frames, process_cache

SPEC = FrameSpec(num_frames=4, size=(56, 56))
CONFIG = CacheConfig(max_bytes=2**20, timeout_seconds=30.0)
WORKERS = 3


@pytest.fixture
def clips(tmp_path):
    rng = np.random.default_rng(0)
    paths = []
    for number in range(4):
        path = tmp_path / f"{number}.mp4"
        path.write_bytes(encode_h264(rng.integers(0, 255, (12, 64, 64, 3), dtype=np.uint8), crf=20))
        paths.append(str(path))
    return paths


@ray.remote(num_cpus=0)
class Worker:
    """Stands for an agent loop worker: a process that asks for frames."""

    def frames(self, path):
        return get_frames(path, SPEC, CONFIG).frames.copy()

    def error(self, path):
        try:
            get_frames(path, SPEC, CONFIG)
        except VideoError as error:
            return str(error)

    def pid(self):
        return os.getpid()


def test_without_ray_the_process_has_its_own(clips):
    process_cache.cache_clear()
    assert np.array_equal(get_frames(clips[0], SPEC, CONFIG).frames, decode(clips[0], SPEC).frames)
    assert process_cache(CONFIG).decodes == 1


def test_threads_that_ask_at_once_make_one_handle(monkeypatch):
    made = []

    def slow(*args):
        made.append(args)
        time.sleep(0.05)
        return object()

    monkeypatch.setattr(node_frames_module, "_actor", lru_cache(slow))
    monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(get_node_id=lambda: "node"))
    with ThreadPoolExecutor(8) as pool:
        handles = list(pool.map(lambda _: get_frame_cache(CONFIG), range(8)))
    assert len(made) == 1
    assert len(set(map(id, handles))) == 1


@pytest.mark.e2e
class TestFrameCacheActor:
    @pytest.fixture(scope="class")
    def workers(self, cluster):
        workers = [Worker.remote() for _ in range(WORKERS)]
        assert len(set(ray.get([worker.pid.remote() for worker in workers]))) == WORKERS
        return workers

    def counts(self):
        return ray.get(get_frame_cache(CONFIG).counts.remote())

    def test_workers_of_a_node_share_one_decode_within_a_step_and_in_the_next_epoch(self, workers, clips):
        before = self.counts()
        for _ in range(2):
            answers = ray.get([worker.frames.remote(path) for path in clips for worker in workers])
            for position, frames in enumerate(answers):
                assert np.array_equal(frames, decode(clips[position // WORKERS], SPEC).frames)
        after = self.counts()
        assert after["decodes"] - before["decodes"] == len(clips)
        assert after["hits"] - before["hits"] == 2 * WORKERS * len(clips) - len(clips)
        assert 0 < after["bytes"] <= CONFIG.max_bytes
        metrics = frame_metrics()
        assert 0 < metrics.pop("frames/wait_mean_seconds") < metrics.pop("frames/wait_max_seconds") < 120
        assert metrics == {
            "frames/decoded": after["decodes"],
            "frames/served": after["hits"],
            "frames/bytes": after["bytes"],
        }
        assert frame_metrics()["frames/wait_max_seconds"] == 0  # of requests since the last call

    def test_a_broken_video_is_named_to_every_worker_and_tried_once(self, workers, tmp_path):
        path = tmp_path / "broken.mp4"
        path.write_bytes(b"no video at all")
        before = self.counts()
        errors = ray.get([worker.error.remote(str(path)) for worker in workers])
        assert all(error.count(str(path)) and "\n" not in error.strip() for error in errors)
        assert self.counts()["decodes"] - before["decodes"] == 1

    def test_a_cache_that_was_killed_starts_again(self, workers, clips):
        pid = ray.get(get_frame_cache(CONFIG).__ray_call__.remote(lambda _: os.getpid()))
        os.kill(pid, signal.SIGKILL)
        answers = ray.get([worker.frames.remote(path) for path in clips for worker in workers], timeout=120)
        for position, frames in enumerate(answers):
            assert np.array_equal(frames, decode(clips[position // WORKERS], SPEC).frames)
        assert self.counts()["decodes"] == len(clips)

    def test_a_cache_that_ended_for_good_is_left_out(self, workers, clips):
        workers[0].frames.remote(clips[0])
        assert frame_metrics()["frames/decoded"] > 0
        ray.kill(get_frame_cache(CONFIG))
        assert set(frame_metrics(seconds=5).values()) == {0}
