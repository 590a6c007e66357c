"""The next batch is looked at before it is taken, and its videos are decoded meanwhile."""

import time

import numpy as np
import pytest
import ray
import torch
from omegaconf import OmegaConf
from torchdata.stateful_dataloader import StatefulDataLoader
from torchdata.stateful_dataloader.sampler import RandomSampler

from vqathinker_verl.demo.degradations import encode_h264
from vqathinker_verl.plugin.config import cache_config
from vqathinker_verl.plugin.dataset import frames_shown
from vqathinker_verl.plugin.frame_actor import get_frame_cache, get_frames
from vqathinker_verl.plugin.look_ahead import LookAheadLoader, decode_ahead

ROWS, BATCH = 10, 3  # 3 batches an epoch, one row is left out of each
STEPS = 8  # into the third epoch


def make_loader(workers=0):
    """As verl makes it (verl/trainer/ppo/v1/trainer_base.py)."""
    generator = torch.Generator()
    generator.manual_seed(1)
    rows = list(range(ROWS))
    sampler = RandomSampler(data_source=rows, generator=generator)
    return StatefulDataLoader(
        rows, batch_size=BATCH, num_workers=workers, drop_last=True, sampler=sampler, collate_fn=list
    )


class Trainer:
    """verl's way with a dataloader: _fetch_one_gen_batch."""

    def __init__(self, loader):
        self.loader, self.iterator = loader, None

    def fetch(self):
        try:
            if self.iterator is None:
                self.iterator = iter(self.loader)
            return next(self.iterator)
        except StopIteration:
            self.iterator = iter(self.loader)
            return next(self.iterator)


def plain(steps, workers=0, state=None):
    """The batches that verl takes from the loader alone."""
    trainer = Trainer(make_loader(workers))
    if state is not None:
        trainer.loader.load_state_dict(state)
    return [trainer.fetch() for _ in range(steps)]


class TestLoader:
    @pytest.mark.parametrize("workers", [0, 2])
    def test_gives_the_batches_that_it_was_looked_at(self, workers):
        trainer = Trainer(LookAheadLoader(make_loader(workers)))
        expected = plain(STEPS + 1, workers)
        for step in range(STEPS):
            assert trainer.fetch() == expected[step]
            assert trainer.loader.look_ahead(1) == [expected[step + 1]]

    @pytest.mark.parametrize(
        ("workers", "ahead", "saved_after"),
        [(0, 1, (0, 2, 3, 5)), (0, 2, (0, 1, 2, 3)), (2, 1, (2, 3))],  # an epoch ends after 2 and 5
    )
    def test_a_resumed_run_loses_and_repeats_no_batch(self, workers, ahead, saved_after):
        trainer = Trainer(LookAheadLoader(make_loader(workers)))
        expected = plain(STEPS + 4, workers)
        for step in range(max(saved_after) + 1):
            assert trainer.fetch() == expected[step]
            trainer.loader.look_ahead(ahead)
            if step in saved_after:
                state = trainer.loader.state_dict()
                resumed = Trainer(LookAheadLoader(make_loader(workers)))
                resumed.loader.load_state_dict(state)
                assert [resumed.fetch() for _ in range(4)] == expected[step + 1 : step + 5]
                # Also by verl's trainer as it is.
                assert plain(4, workers, state) == expected[step + 1 : step + 5]

    def test_the_state_is_that_of_a_loader_without_looking_ahead(self):
        one, other = make_loader(), LookAheadLoader(make_loader())
        one_trainer, other_trainer = Trainer(one), Trainer(other)
        for _ in range(STEPS):
            one_trainer.fetch(), other_trainer.fetch()
            other.look_ahead(1)
            assert str(one.state_dict()) == str(other.state_dict())


@ray.remote(num_cpus=0)
class Worker:
    """Stands for an agent loop worker."""

    async def shape(self, messages, data):
        ((path, spec),) = frames_shown(messages, 14, data)
        return get_frames(path, spec, cache_config(data)).frames.shape


@pytest.mark.e2e
def test_videos_are_decoded_before_they_are_asked_for(cluster, tmp_path):
    rng = np.random.default_rng(0)
    prompts = []
    for number in range(5):
        path = tmp_path / f"{number}.mp4"
        path.write_bytes(encode_h264(rng.integers(0, 255, (12, 64, 64, 3), dtype=np.uint8), crf=20))
        video = {"type": "video", "video": str(path), "split": "train"}
        prompts.append([{"role": "user", "content": [video, {"type": "text", "text": "How good is it?"}]}])
    data = OmegaConf.create({"frames": {"train": {"num_frames": 4, "size": [56, 56]}, "cache_bytes": 2**20}})
    workers = [Worker.remote() for _ in range(2)]
    decode_ahead(prompts, workers, 14, data)
    cache = get_frame_cache(cache_config(data))
    deadline = time.monotonic() + 120
    while ray.get(cache.counts.remote())["bytes"] < 5 * 4 * 3 * 56 * 56 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert ray.get(cache.counts.remote()) == {"decodes": 5, "hits": 0, "bytes": 5 * 4 * 3 * 56 * 56}
    shapes = ray.get([workers[number % 2].shape.remote(prompt, data) for number, prompt in enumerate(prompts)])
    assert shapes == [(4, 3, 56, 56)] * 5
    assert ray.get(cache.counts.remote())["decodes"] == 5
    assert max(ray.get(cache.take_waits.remote())) < 1
