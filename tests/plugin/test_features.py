"""Features once per prompt, on a real TransferQueue, with verl's own code before and behind it."""

import asyncio
import math
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from tensordict import TensorDict
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from transfer_queue import KVBatchMeta
from transfer_queue.utils.zmq_utils import ZMQMessage, frame_nbytes
from verl.experimental.agent_loop.agent_loop import AgentLoopMetrics, AgentLoopOutput
from verl.trainer.ppo.padding_utils import upsample_batch_to_divisible_size
from verl.trainer.ppo.v1.agent_loop_tq import AgentLoopWorkerTQ
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer
from verl.utils.model import extract_multi_modal_inputs
from verl.utils.transferqueue_utils import tqbridge

from vqathinker_verl.config.compose import composed
from vqathinker_verl.plugin import features as module
from vqathinker_verl.plugin import trainer as trainers
from vqathinker_verl.plugin.agent_loop import VideoQualityAgentLoopWorker

GROUP_SIZE = 8
WORKERS = 2
PHASES = 3  # old log-probabilities, reference, update


def qwen(frames, side=16, width=1176):
    """As Qwen's processors give them: a row for each patch of 14 x 14 (Qwen3-VL: 16 x 16) in two frames."""
    patches = frames // 2 * side * side
    grid = torch.tensor([[frames // 2, side, side]])
    return {"pixel_values_videos": torch.randn(patches, width), "video_grid_thw": grid}


FEATURES = {
    "video": lambda: {**qwen(6), "second_per_grid_ts": torch.tensor([1.5])},
    "image": lambda: {**qwen(2), "second_per_grid_ts": torch.tensor([1.0])},
    "chain": lambda: {**qwen(6), "second_per_grid_ts": torch.tensor([0.5])},
    "qwen3": lambda: qwen(6, width=1536),
    "internvl": lambda: {"pixel_values": torch.randn(6, 3, 112, 112)},
}


@pytest.fixture
def prompts():
    torch.manual_seed(0)
    return {name: make() for name, make in FEATURES.items() if name not in ("qwen3", "internvl")}


@pytest.fixture(autouse=True)
def _nothing_of_another_test(request):
    yield
    module._last_read = {}
    if "queue" in request.fixturenames:
        queue = request.getfixturevalue("queue")
        for partition, tags in (queue.kv_list() or {}).items():
            if tags:
                queue.kv_clear(keys=list(tags), partition_id=partition)


class StockWorker(AgentLoopWorkerTQ.__ray_metadata__.modified_class):
    """verl's own, with the processor's output at hand."""

    def _compute_multi_modal_inputs(self, output, input_ids):
        return dict(output.multi_modal_data["features"])


def store_rows(queue, prompts, worker_class, dtype=None, failed=()):
    """What the workers store of a step: prompts, their features and responses, but those of the sessions `failed`."""
    worker = object.__new__(worker_class)
    worker.processor, worker.reward_loop_worker_handles, worker.distillation_enabled = None, [], False

    async def store():
        for uid, features in prompts.items():
            if worker_class is VideoQualityAgentLoopWorker:
                features = await module.store_features(uid, features, dtype)
            for session in range(GROUP_SIZE):
                if (uid, session) in failed:
                    continue
                ids = [5] * (3 + session)
                output = AgentLoopOutput(
                    prompt_ids=[1, 2, 3],
                    response_ids=ids,
                    response_mask=[1] * len(ids),
                    response_logprobs=[-1.0] * len(ids),
                    multi_modal_data={"features": features},
                    reward_score=math.nan,
                    num_turns=2,
                    metrics=AgentLoopMetrics(),
                    extra_fields={"min_global_steps": 1, "max_global_steps": 1},
                )
                row = {"uid": uid, "session_id": session, "global_steps": 1, "extra_info": {"chain": uid == "chain"}}
                await worker._agent_loop_postprocess(output, False, **row)

    queue.kv_batch_put(
        keys=list(prompts),
        partition_id="train",
        tags=[{"is_prompt": True, "status": "finished", "global_steps": 1}] * len(prompts),
    )
    asyncio.run(store())


def sampled(num_prompts):
    buffer = ReplayBuffer("sync", {}, None, "drop", {}, poll_interval=0.1)
    batch, _ = buffer.sample(global_steps=1, partition_id="train", batch_size=num_prompts)
    return upsample_batch_to_divisible_size(batch, WORKERS, eos_token_id=0)


def shares_of(batch):
    """Balancing scatters the responses of a prompt over the workers."""
    return [
        KVBatchMeta(partition_id="train", keys=batch.keys[rank::WORKERS], tags=batch.tags[rank::WORKERS])
        for rank in range(WORKERS)
    ]


def read(share):
    """A share as a worker's method gets it, through verl's bridge."""
    seen = []
    tqbridge()(seen.append)(share)
    return seen[0]


def read_step(batch):
    """All phases of all workers, each in a process of its own; returns {key: inputs} of the last phase."""
    inputs = {}
    for share in shares_of(batch):
        module._last_read = {}
        for _ in range(PHASES):
            data = read(share)
        inputs |= dict(zip(share.keys, data["multi_modal_inputs"], strict=True))
    return inputs


@contextmanager
def counted():
    """Count the bytes of all messages that this process sends to TransferQueue and gets from it."""
    count = SimpleNamespace(bytes=0)
    serialize, deserialize = ZMQMessage.serialize, ZMQMessage.deserialize.__func__

    def sent(message):
        frames = serialize(message)
        count.bytes += sum(map(frame_nbytes, frames))
        return frames

    def received(cls, frames):
        count.bytes += sum(map(frame_nbytes, frames))
        return deserialize(cls, frames)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ZMQMessage, "serialize", sent)
        patch.setattr(ZMQMessage, "deserialize", classmethod(received))
        yield count


def size_of(queue, folder):
    """Bytes that TransferQueue holds, as it saves them itself."""
    queue.save_checkpoint(folder)
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def nbytes(features):
    return sum(value.nbytes for value in features.values())


def step(queue, prompts, folder, worker_class, dtype=None):
    """One step: bytes through TransferQueue, bytes held before the batch is cleared, and what each row's inputs are."""
    with counted() as traffic:
        store_rows(queue, prompts, worker_class, dtype)
        batch = sampled(len(prompts))
        inputs = read_step(batch)
    held = size_of(queue, folder)
    queue.kv_clear(keys=batch.keys, partition_id="train")
    return traffic.bytes, held, inputs


def test_bytes_per_step(queue, prompts, tmp_path, capsys):
    """And stock verl still stores a prompt's features with each of its responses: else the patch can go."""
    pixels = sum(nbytes(features) for features in prompts.values())
    through, held, before = step(queue, prompts, tmp_path / "stock", StockWorker)
    assert held > GROUP_SIZE * pixels
    assert through > (1 + PHASES) * GROUP_SIZE * pixels
    for dtype, ratio_held, ratio_through in ((torch.float32, 7, 4), (torch.bfloat16, 14, 8)):
        less, kept, after = step(queue, prompts, tmp_path / str(dtype), VideoQualityAgentLoopWorker, dtype)
        with capsys.disabled():
            print(f"\n{dtype}: through {through:,} -> {less:,} ({through / less:.1f}), ", end="")
            print(f"held {held:,} -> {kept:,} ({held / kept:.1f})")
        assert held / kept > ratio_held
        assert through / less > ratio_through

        assert before.keys() == after.keys()
        for key, expected in before.items():
            assert after[key].keys() == expected.keys()
            for name, value in expected.items():
                cast = value.to(dtype) if name.startswith("pixel_values") else value
                assert after[key][name].dtype == cast.dtype
                assert torch.equal(after[key][name], cast)
