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


class Trainer(trainers.VideoQualityTrainerSync):
    """Without verl's constructor, which wants a model."""

    def __init__(self, trainer_mode="sync"):
        self.trainer_mode = trainer_mode


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


def test_bytes_per_step(queue, prompts, tmp_path):
    """In fp32 10.6 times fewer through TransferQueue, 7.9 times fewer held; in bf16 21.0 and 15.7 times.

    Stock verl still stores a prompt's features with each of its responses: where it does not, the patch can go.
    """
    pixels = sum(nbytes(features) for features in prompts.values())
    through, held, before = step(queue, prompts, tmp_path / "stock", StockWorker)
    assert held > GROUP_SIZE * pixels
    assert through > (1 + PHASES) * GROUP_SIZE * pixels
    for dtype, ratio_held, ratio_through in ((torch.float32, 7, 4), (torch.bfloat16, 14, 8)):
        less, kept, after = step(queue, prompts, tmp_path / str(dtype), VideoQualityAgentLoopWorker, dtype)
        assert held / kept > ratio_held
        assert through / less > ratio_through

        assert before.keys() == after.keys()
        for key, expected in before.items():
            assert after[key].keys() == expected.keys()
            for name, value in expected.items():
                cast = value.to(dtype) if name.startswith("pixel_values") else value
                assert after[key][name].dtype == cast.dtype
                assert torch.equal(after[key][name], cast)


def test_failed_sessions_and_padding_rows(queue, prompts):
    """verl copies its padding rows from the batch's first row, which has no features of its own any more."""
    failed = {("video", 0), ("image", 3), ("image", 7)}
    store_rows(queue, prompts, VideoQualityAgentLoopWorker, failed=failed)
    batch = sampled(len(prompts))
    padding = {key for key, tag in zip(batch.keys, batch.tags, strict=True) if tag.get("is_padding")}
    assert (len(batch.keys), len(padding)) == (GROUP_SIZE * len(prompts) - len(failed) + 1, 1)

    inputs = read_step(batch)
    for key in batch.keys:
        expected = {} if key in padding else prompts[key.split("_")[0]]
        assert inputs[key].keys() == expected.keys()
        assert all(torch.equal(inputs[key][name], value) for name, value in expected.items())

    for rows in (batch.keys[:5], batch.keys[-4:]):  # a micro-batch, as verl's engine joins it: image, videos, padding
        joined = extract_multi_modal_inputs([inputs[key] for key in rows])
        expected = [prompts[key.split("_")[0]] for key in rows if key not in padding]
        for name, value in joined.items():
            assert torch.equal(value, torch.cat([features[name] for features in expected]))


@pytest.mark.parametrize("name", FEATURES)
@pytest.mark.parametrize("dtype", [None, torch.float32, torch.bfloat16])
def test_every_architectures_names(queue, name, dtype):
    features = FEATURES[name]()
    row = asyncio.run(module.store_features("a", features, dtype))
    assert row.pop(module.STORED) == "a"
    assert nbytes(row) < 100
    rows = TensorDict({"multi_modal_inputs": module.NonTensorStack({**row, module.STORED: "a"}, {})}, batch_size=2)
    given, padding = asyncio.run(module.with_features(rows))["multi_modal_inputs"]
    assert padding == {}
    assert given.keys() == features.keys()
    for field, value in features.items():
        assert torch.equal(given[field], value.to(dtype or value.dtype) if "pixel" in field else value)


def test_a_prompt_without_pixels_stores_nothing(queue):
    assert asyncio.run(module.store_features("text", {"input_ids": torch.arange(3)}, None)).keys() == {"input_ids"}
    assert "text" not in (queue.kv_list(module.PARTITION) or {}).get(module.PARTITION, {})


def test_features_that_are_just_being_stored_are_counted_without_their_bytes(queue):
    """TransferQueue makes a key before it has the key's tag; asynchronous trainers look at any time."""
    client = queue.get_client()
    client._run_coroutine(client.async_kv_retrieve_meta(keys=["a"], partition_id=module.PARTITION, create=True))
    assert module.feature_metrics() == {"features/prompts": 1, "features/bytes": 0}


def test_features_leave_with_their_responses(queue, prompts, tmp_path):
    """Those of prompts that are still running, or that wait for a later step, stay."""
    store_rows(queue, prompts, VideoQualityAgentLoopWorker)
    asyncio.run(module.store_features("running", FEATURES["video"](), None))
    queue.kv_batch_put(keys=["running"], partition_id="train", tags=[{"is_prompt": True, "status": "running"}])
    everything = size_of(queue, tmp_path / "everything")
    held = module.feature_metrics()
    assert held["features/prompts"] == 4
    pixels = [value for made in (*prompts.values(), FEATURES["video"]()) for value in made.values() if value.ndim == 2]
    assert held["features/bytes"] == sum(value.nbytes for value in pixels if value.is_floating_point())

    trainer = Trainer()
    trainer.on_step_begin()
    assert module.feature_metrics() == held

    buffer = ReplayBuffer("sync", {}, None, "drop", {}, poll_interval=0.1)
    queue.kv_batch_put(
        keys=["running"], partition_id="train", tags=[{"is_prompt": True, "status": "running", "global_steps": 1}]
    )
    buffer._sync_metadata_from_transfer_queue()
    buffer._clear_groups("train", {"chain"})  # evicted: stale, or not wanted
    batch, _ = buffer.sample(global_steps=1, partition_id="train", batch_size=2)
    trainer.on_step_begin()
    assert set(queue.kv_list()[module.PARTITION]) == {"video", "image", "running"}
    queue.kv_clear(keys=batch.keys, partition_id="train")  # as verl's loop does at the end of a step
    trainer.on_step_begin()
    assert set(queue.kv_list()[module.PARTITION]) == {"running"}
    queue.kv_clear(keys=["running"], partition_id="train")
    trainer.on_step_begin()
    assert module.feature_metrics() == {"features/prompts": 0, "features/bytes": 0}
    assert size_of(queue, tmp_path / "nothing") < everything / 50


def test_a_checkpoint_of_the_queue_holds_the_features(queue, prompts, tmp_path, monkeypatch):
    """The asynchronous trainers save responses that wait for a later step, and those of the step they are in."""
    store_rows(queue, prompts, VideoQualityAgentLoopWorker)
    queue.kv_clear(keys=["image"], partition_id="train")  # sampled: the step that trained on its responses is saved
    queue.save_checkpoint(tmp_path / "queue")
    for partition, tags in queue.kv_list().items():
        queue.kv_clear(keys=list(tags), partition_id=partition)

    monkeypatch.setattr(
        trainers.PPOTrainerSync, "_load_checkpoint", lambda _: queue.load_checkpoint(tmp_path / "queue")
    )
    Trainer("colocate_async")._load_checkpoint()
    assert set(queue.kv_list()[module.PARTITION]) == {"video", "chain"}
    batch = sampled(2)
    for key, inputs in read_step(batch).items():
        for name, value in prompts[key.split("_")[0]].items():
            assert torch.equal(inputs[name], value)


def test_rows_whose_features_are_not_there_stop_the_run(queue, prompts):
    store_rows(queue, prompts, VideoQualityAgentLoopWorker)
    queue.kv_clear(keys=["image"], partition_id=module.PARTITION)
    (share, _) = shares_of(sampled(len(prompts)))
    with pytest.raises(
        RuntimeError, match=r"does not hold the features of all of these 3 prompts: video, image, chain"
    ):
        read(share)


def test_the_dtype_is_that_of_both_models_inputs(recipe_config_dir):
    paths = ["data.train_files=a", "data.val_files=b", "actor_rollout_ref.model.path=c"]

    def dtype(*overrides):
        return module.dtype_of_inputs(composed(recipe_config_dir, "vqathinker", [*overrides, *paths]))

    assert dtype() == torch.bfloat16
    assert dtype("platform=cpu", "experiment=demo") == torch.float32
    actor, reference = (
        f"++actor_rollout_ref.{role}.fsdp_config.mixed_precision={{param_dtype: fp16}}" for role in ("actor", "ref")
    )
    assert dtype(actor, reference) == torch.float16
    assert dtype(reference) is None  # they differ
    assert dtype("actor_rollout_ref.actor.strategy=megatron", "actor_rollout_ref.ref.strategy=megatron") is None


def test_fsdp_casts_the_inputs_before_the_model_sees_them(tmp_path):
    """So a cast before they are stored changes nothing: the policy is what verl's engine makes of `param_dtype`."""
    seen = []

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(4, dtype=torch.float32))

        def forward(self, *, pixel_values_videos):
            seen.append(pixel_values_videos)
            return pixel_values_videos * self.weight

    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        policy = MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=True)
        mesh = dist.device_mesh.init_device_mesh("cpu", (1,))
        model = fully_shard(Model(), mesh=mesh, mp_policy=policy)
        pixels = torch.randn(100, 4)
        outputs = [model(pixel_values_videos=given) for given in (pixels, pixels.bfloat16())]
    finally:
        dist.destroy_process_group()
    assert [one.dtype for one in seen] == [torch.bfloat16] * 2
    assert torch.equal(*seen)
    assert torch.equal(*outputs)
