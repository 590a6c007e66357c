"""verl's own agent loop classes, a real processor and real clips; only the vLLM server is a stand-in."""

import asyncio
import itertools
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from types import MethodType, SimpleNamespace
from uuid import uuid4

import numpy as np
import pytest
import ray
import torch
from PIL import Image
from tensordict import NonTensorStack, TensorDict
from transformers.models.qwen2_5_vl import Qwen2_5_VLModel
from verl.experimental.agent_loop.agent_loop import DictConfigWrap
from verl.experimental.reward_loop import RewardLoopManager
from verl.workers.rollout.replica import TokenOutput
from verl.workers.rollout.utils import qwen2_5_vl_dedup_image_tokens

from vqathinker_verl.config.compose import composed
from vqathinker_verl.demo.degradations import encode_h264
from vqathinker_verl.demo.model import build_model, build_processor
from vqathinker_verl.frames import VideoError
from vqathinker_verl.perturbations import PerturbationConfig, draw_perturbation, perturbation_rng
from vqathinker_verl.plugin import agent_loop as loops
from vqathinker_verl.plugin import dataset, features, patches
from vqathinker_verl.plugin.config import TemporalConfig, cache_config
from vqathinker_verl.plugin.frame_actor import process_cache
from vqathinker_verl.prompts import QUALITY_PROMPT, video_messages

GROUP_SIZE = 4


class Server:
    """Holds every request back until `expected` have arrived, as only requests sent together can be batched."""

    def __init__(self, tokenizer, expected):
        self.tokenizer, self.expected = tokenizer, expected
        self.requests, self.all_here = [], asyncio.Event()

    async def generate(self, **request):
        self.requests.append(request)
        number = len(self.requests)
        if number == self.expected:
            self.all_here.set()
        await asyncio.wait_for(self.all_here.wait(), timeout=30)
        text = f"<think>It looks sharp</think><answer>{number % 5 + 1}.00</answer>"
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return TokenOutput(token_ids=ids, log_probs=[-1.0] * len(ids), extra_fields={"min_global_steps": 1})


@pytest.fixture(scope="module")
def processor():
    """As verl's `hf_processor` makes it: with the model's config, and transformers' rule for positions."""
    made = build_processor()
    made.config = build_model(made.tokenizer, seed=0).config
    made.config.vision_config.tokens_per_second = 2
    made.get_rope_index = MethodType(Qwen2_5_VLModel.get_rope_index, made)
    return made


@pytest.fixture(scope="module")
def config(recipe_config_dir):
    paths = ["data.train_files=a", "data.val_files=b", "actor_rollout_ref.model.path=c"]
    overrides = ["platform=cpu", "experiment=demo", f"actor_rollout_ref.rollout.n={GROUP_SIZE}", *paths]
    return composed(recipe_config_dir, "vqathinker", overrides)


@pytest.fixture(autouse=True)
def _a_cache_of_its_own():
    process_cache.cache_clear()
    yield
    process_cache.cache_clear()


class Queue:
    """In TransferQueue's place; test_features.py has a real one."""

    def __init__(self):
        self.puts = []

    async def async_kv_batch_put(self, *, keys, partition_id, fields, tags):
        self.puts.append((partition_id, keys[0], fields))

    async def async_kv_batch_get(self, *, keys, partition_id, select_fields):
        assert select_fields == [features.COLUMN]
        stored = {uid: fields for partition, uid, fields in self.puts if partition == partition_id}
        return TensorDict({features.COLUMN: NonTensorStack(*(stored[uid][features.COLUMN][0] for uid in keys))}, 1)


@pytest.fixture(autouse=True)
def queue_of_features(monkeypatch):
    queue = Queue()
    monkeypatch.setattr(features, "tq", queue)
    return queue


def write_clip(path, num_frames=24):
    """A square that moves to the right, so that every change of order shows."""
    frames = np.full((num_frames, 84, 84, 3), 90, dtype=np.uint8)
    for number, frame in enumerate(frames):
        left = 64 * number // num_frames
        frame[30:50, left : left + 20] = (220, 40, 40)
    path.write_bytes(encode_h264(frames, 18))
    return path


def row_of(path, split="train"):
    content = [{"type": "video", "video": str(path), "split": split}, {"type": "text", "text": QUALITY_PROMPT}]
    assert video_messages(QUALITY_PROMPT)[0]["content"] == "<video>" + QUALITY_PROMPT
    return {
        "uid": uuid4().hex,
        "raw_prompt": [{"role": "user", "content": content}],
        "extra_info": {"index": 0, "split": split, "video_id": f"demo/{path.name}"},
        "data_source": "demo",
        "reward_model": {"style": "rule", "ground_truth": 3.0},
        "global_steps": 3,
    }


def run_group(config, processor, row, *, is_validation=False, sessions=GROUP_SIZE, expected):
    """All sessions of one prompt at once, as verl starts them; returns outputs and the server's requests."""

    async def scenario():
        server = Server(processor.tokenizer, expected)

        def new_loop():  # verl makes one for every response
            return loops.VideoQualityAgentLoop(
                trainer_config=DictConfigWrap(config),
                server_manager=server,
                tokenizer=processor.tokenizer,
                processor=processor,
                dataset_cls=dataset.VideoQualityDataset,
                data_config=DictConfigWrap(config.data),
                hf_model_type="qwen2_5_vl",
            )

        tasks = [
            new_loop().run({"temperature": 1.0}, session_id=number, is_validation=is_validation, **row)
            for number in range(sessions)
        ]
        return await asyncio.gather(*tasks, return_exceptions=True), server.requests

    return asyncio.run(scenario())


def frames_of(request):
    return request["video_data"][0][0]


def split_requests(requests):
    """Requests with the frames in order, and the others."""
    originals = [r for r in requests if torch.equal(frames_of(r), frames_of(requests[0]))]
    return originals, [r for r in requests if not torch.equal(frames_of(r), frames_of(requests[0]))]


class TestTraining:
    @pytest.fixture
    def group(self, config, processor, tmp_path):
        row = row_of(write_clip(tmp_path / "clip.mp4"))
        return run_group(config, processor, row, expected=GROUP_SIZE + GROUP_SIZE // 2)

    def test_original_and_perturbed_requests_are_sent_together(self, group):
        """The stand-in server answers none before all are there."""
        outputs, requests = group
        assert not [output for output in outputs if isinstance(output, BaseException)]
        originals, perturbed = split_requests(requests)
        assert (len(originals), len(perturbed)) == (GROUP_SIZE, GROUP_SIZE // 2)

    def test_one_decode_serves_them_all(self, group, config):
        assert process_cache(cache_config(config.data)).decodes == 1

    def test_the_perturbed_copy_differs_in_its_frames_alone(self, group):
        originals, perturbed = split_requests(group[1])
        assert perturbed[0]["prompt_ids"] == originals[0]["prompt_ids"]
        assert perturbed[0]["video_data"][0][1] == originals[0]["video_data"][0][1]
        assert frames_of(perturbed[0]).shape == frames_of(originals[0]).shape
        assert torch.equal(frames_of(perturbed[0]), frames_of(perturbed[1]))

    def test_the_texts_reach_the_trainer_and_no_reward_does(self, group):
        outputs, _ = group
        with_pair = [output for output in outputs if output.extra_fields["perturbed_response"] is not None]
        assert len(with_pair) == GROUP_SIZE // 2
        for output in outputs:
            assert output.extra_fields["response_text"].startswith("<think>It looks sharp</think><answer>")
            assert math.isnan(output.reward_score)
            assert math.isnan(output.as_dict()["rm_scores"][-1])
        for output in with_pair:
            assert output.extra_fields["perturbed_response"].endswith(".00</answer>")
            assert output.extra_fields["perturbed_tokens"] > 0
            assert output.extra_fields["perturbation"] is not None

    def test_the_prompt_holds_the_videos_tokens(self, group, processor, config):
        output = group[0][0]
        pad = processor.tokenizer.convert_tokens_to_ids("<|video_pad|>")
        assert output.prompt_ids.count(pad) == (config.data.frames.train.num_frames // 2) * (84 // 28) ** 2
        text = processor.tokenizer.decode(output.response_ids, skip_special_tokens=True)
        assert text.startswith("<think>It looks sharp</think><answer>")
        assert len(output.response_logprobs) == len(output.response_ids) == len(output.response_mask)

    def test_the_server_gets_the_prompt_that_it_expands_itself(self, group, processor):
        """Which is what verl's folding makes of the expanded one, for Qwen2.5-VL."""
        outputs, requests = group
        folded = qwen2_5_vl_dedup_image_tokens(outputs[0].prompt_ids, processor)
        assert all(request["prompt_ids"] == folded for request in requests)
        assert folded.count(processor.video_token_id) == 1

    def test_nothing_of_the_prompt_is_kept(self, group):
        assert not loops.VideoQualityAgentLoop.prompts._tasks


@pytest.mark.e2e
def test_vllm_runs_the_group_in_one_batch_and_sees_each_video_once(config, processor, tiny_model, tmp_path):
    """Equal frames and times share vLLM's processor and encoder; both sides place every token at the same time."""
    path = write_clip(tmp_path / "clip.mp4", num_frames=120)
    outputs, requests = run_group(config, processor, row_of(path), expected=GROUP_SIZE + GROUP_SIZE // 2)
    originals, perturbed = split_requests(requests)
    assert (len(originals), len(perturbed)) == (GROUP_SIZE, GROUP_SIZE // 2)
    saved = []
    for request in requests:
        frames, metadata = request["video_data"][0]
        given = {"frames": frames.tolist(), "metadata": metadata, "mm_processor_kwargs": request["mm_processor_kwargs"]}
        saved.append({"ids": list(request["prompt_ids"]), **given})
    slower = [{**one, "fps": one["fps"] / 2} for one in saved[0]["mm_processor_kwargs"]["video_metadata"]]
    saved.append({**saved[0], "mm_processor_kwargs": {"video_metadata": slower, "do_sample_frames": False}})
    (tmp_path / "requests.json").write_text(json.dumps(saved))
    probe = Path(__file__).with_name("vllm_batch_probe.py")
    command = [sys.executable, str(probe), str(tiny_model), str(tmp_path / "requests.json")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, timeout=300, check=True, text=True)
    seen = json.loads(done.stdout.splitlines()[-1])
    first, *later = seen["steps"]
    assert first == {"requests": len(saved), "videos": 3}
    assert all(step["videos"] == 0 for step in later)
    # Other times are another video to vLLM, and no reason to load its processor again.
    assert (seen["processed"], seen["loaded"]) == (3, 1)

    worker = object.__new__(loops.VideoQualityAgentLoopWorker)
    worker.processor, worker.tokenizer = processor, processor.tokenizer
    patches.use_times_of_the_rollouts(processor, "float32")
    ids = torch.tensor([outputs[0].prompt_ids])
    inputs = worker._compute_multi_modal_inputs(outputs[0], ids)
    trained = worker._compute_position_ids(ids, torch.ones_like(ids), inputs)[0, 1:]
    assert len(trained[0, ids[0] == processor.video_token_id].unique()) == 3
    *group, twice_as_long = seen["positions"]
    assert all(found == trained.tolist() for found in group)
    assert len(group) == len(requests)
    assert max(twice_as_long[0]) > max(group[0][0])


def test_every_response_of_a_seeded_run_has_a_seed_of_its_own(config, processor, tmp_path):
    """The same when the step is taken again, another one at another step."""
    changed = config.copy()
    changed.vqathinker.sampling_seed = 7
    row = row_of(write_clip(tmp_path / "clip.mp4"))
    seeds = []
    for step in (3, 3, 4):
        row |= {"global_steps": step, "uid": uuid4().hex}
        _, requests = run_group(changed, processor, row, expected=GROUP_SIZE + GROUP_SIZE // 2)
        seeds.append([request["sampling_params"]["seed"] for request in requests])
    assert len(set(seeds[0])) == GROUP_SIZE + GROUP_SIZE // 2
    assert sorted(seeds[0]) == sorted(seeds[1])
    assert not set(seeds[0]) & set(seeds[2])


def test_validation_draws_no_perturbed_responses(config, processor, tmp_path):
    row = row_of(write_clip(tmp_path / "clip.mp4"), split="val")
    outputs, requests = run_group(config, processor, row, is_validation=True, sessions=1, expected=1)
    assert len(requests) == 1
    assert outputs[0].extra_fields["perturbed_response"] is None


def test_validation_is_scored_without_a_reward_worker(config, processor, monkeypatch, tmp_path):
    """The stand-in server answers 2.00 for a video of MOS 3, which earns exp(-1 / (2 x 0.5^2)) and 1 for its format."""
    (output,), _ = run_group(
        config, processor, row_of(write_clip(tmp_path / "clip.mp4")), is_validation=True, sessions=1, expected=1
    )
    assert output.reward_score == pytest.approx(math.exp(-2) + 1)
    assert output.as_dict()["rm_scores"].sum() == pytest.approx(output.reward_score)
    assert output.extra_fields["reward_extra_info"] == pytest.approx(
        {
            "score": output.reward_score,
            "mos": 3.0,
            "pred_mos": 2.0,
            "regression": math.exp(-2),
            "format": 1.0,
            "parse_failure": 0.0,
            "video_id": "demo/clip.mp4",
            "data_source": "demo",
            "perturbation": None,
            "perturbed_response": None,
            "chain": None,
            "strength": None,
        }
    )

    monkeypatch.setattr(ray, "nodes", list)  # so that no Ray need run
    worker = object.__new__(loops.VideoQualityAgentLoopWorker)
    worker.reward_loop_worker_handles = RewardLoopManager(config).reward_loop_worker_handles
    assert worker.reward_loop_worker_handles == []  # None would have the trainer score validation with a reward model
    asyncio.run(worker._compute_score([output], {}))
    assert output.reward_score == pytest.approx(math.exp(-2) + 1)


def test_validation_shows_the_same_perturbation_at_every_step_if_asked(config, processor, tmp_path):
    changed = config.copy()
    changed.vqathinker.temporal.in_validation = True
    row = row_of(write_clip(tmp_path / "clip.mp4"), split="val")
    drawn = []
    for step in (3, 8):
        row["global_steps"] = step
        outputs, requests = run_group(changed, processor, row, is_validation=True, sessions=2, expected=4)
        assert len(requests) == 4
        assert all("<answer>" in output.extra_fields["perturbed_response"] for output in outputs)
        drawn.append([output.extra_fields["perturbation"] for output in outputs])
        for output in outputs:
            dumped = output.extra_fields["reward_extra_info"]
            assert {name: dumped[name] for name in ("perturbation", "perturbed_response")} == {
                name: output.extra_fields[name] for name in ("perturbation", "perturbed_response")
            }
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize(("overrides", "perturbed"), [({"enable": False}, 0), ({"num_perturbed": 1}, 1)])
def test_fewer_perturbed_responses_are_fewer_requests(config, processor, tmp_path, overrides, perturbed):
    changed = config.copy()
    changed.vqathinker.temporal.update(overrides)
    row = row_of(write_clip(tmp_path / "clip.mp4"))
    _, requests = run_group(changed, processor, row, expected=GROUP_SIZE + perturbed)
    assert len(requests) == GROUP_SIZE + perturbed


def test_the_blank_pixel_is_black_or_the_processors_mean():
    imagenet = SimpleNamespace(video_processor=SimpleNamespace(image_mean=[0.485, 0.456, 0.406]))  # InternVL3's
    # 255 x 0.485 = 123.7, 255 x 0.456 = 116.3, 255 x 0.406 = 103.5
    assert loops.blank_pixel(imagenet, "mean").flatten().tolist() == [124, 116, 104]
    assert loops.blank_pixel(imagenet, "black").flatten().tolist() == [0, 0, 0]
    assert loops.blank_pixel(imagenet, "mean").shape == (3, 1, 1)
    assert loops.blank_pixel(imagenet, "mean").dtype == torch.uint8


class TestPerResponse:
    """`temporal.per_response`: as the released code draws them."""

    @pytest.fixture
    def changed(self, config):
        changed = config.copy()
        changed.vqathinker.temporal.update({"per_response": True, "num_perturbed": GROUP_SIZE})
        # Of 720 orders of six frames, so that four draws differ.
        changed.vqathinker.temporal.perturbations.weights = {"shuffle": 1.0}
        return changed

    def drawn(self, config, processor, row):
        _, requests = run_group(config, processor, row | {"uid": uuid4().hex}, expected=2 * GROUP_SIZE)
        _, perturbed = split_requests(requests)
        return requests, [frames_of(request) for request in perturbed]

    def test_each_response_sees_a_perturbation_of_its_own(self, changed, processor, tmp_path):
        requests, copies = self.drawn(changed, processor, row_of(write_clip(tmp_path / "clip.mp4")))
        assert (len(requests), len(copies)) == (2 * GROUP_SIZE, GROUP_SIZE)
        for one, other in itertools.combinations(copies, 2):
            assert not torch.equal(one, other)
        original = frames_of(requests[0])
        for copy in copies:  # the same frames in another order
            assert sorted(frame.sum().item() for frame in copy) == sorted(frame.sum().item() for frame in original)
        assert process_cache(cache_config(changed.data)).decodes == 1

    def test_they_are_drawn_again_in_a_resumed_run_and_differ_at_another_step(self, changed, processor, tmp_path):
        row = row_of(write_clip(tmp_path / "clip.mp4"))
        first, again, later = (
            sorted(copy.numpy().tobytes() for copy in self.drawn(changed, processor, row | {"global_steps": step})[1])
            for step in (3, 3, 4)
        )
        assert first == again
        assert not set(first) & set(later)

    def test_the_draws_are_those_of_each_sessions_own_generator(self, changed, processor, tmp_path):
        row = row_of(write_clip(tmp_path / "clip.mp4"))
        requests, copies = self.drawn(changed, processor, row)
        temporal = TemporalConfig.from_config(changed)
        original = frames_of(requests[0])
        expected = []
        for session in range(GROUP_SIZE):
            rng = perturbation_rng(temporal.seed, 3, row["extra_info"]["video_id"], session)
            expected.append(original[draw_perturbation(len(original), rng, temporal.perturbations).indices])
        as_bytes = [sorted(copy.numpy().tobytes() for copy in side) for side in (copies, expected)]
        assert as_bytes[0] == as_bytes[1]

    def test_each_response_names_its_own(self, config, processor, tmp_path):
        changed = config.copy()
        changed.vqathinker.temporal.update({"per_response": True, "num_perturbed": GROUP_SIZE})
        row = row_of(write_clip(tmp_path / "clip.mp4"))
        outputs, _ = run_group(changed, processor, row, expected=2 * GROUP_SIZE)
        temporal = TemporalConfig.from_config(changed)
        expected = [
            draw_perturbation(
                6, perturbation_rng(temporal.seed, 3, row["extra_info"]["video_id"], session), temporal.perturbations
            ).name
            for session in range(GROUP_SIZE)
        ]
        assert [output.extra_fields["perturbation"] for output in outputs] == expected
        assert len(set(expected)) > 1


def test_an_identity_draw_is_shown_where_it_is_not_drawn_again(config, processor, tmp_path):
    """A clip of one frame: its copy equals it, and takes part in the comparison, as in the released code."""
    changed = config.copy()
    changed.vqathinker.temporal.perturbations.update({"redraw_identity": False, "weights": {"reverse": 1.0}})
    row = row_of(write_clip(tmp_path / "still.mp4", num_frames=1))
    outputs, requests = run_group(changed, processor, row, expected=GROUP_SIZE + GROUP_SIZE // 2)
    assert len(requests) == GROUP_SIZE + GROUP_SIZE // 2
    assert all(torch.equal(frames_of(request), frames_of(requests[0])) for request in requests)
    assert [output.extra_fields["perturbation"] for output in outputs].count("reverse") == GROUP_SIZE // 2


@pytest.mark.parametrize("fill", ["black", "mean"])
def test_a_dropped_frame_shows_black_or_zero_after_normalisation(config, processor, tmp_path, fill):
    changed = config.copy()
    changed.vqathinker.temporal.perturbations.update(
        {"drop_fill": fill, "weights": {"random_drop": 1.0}, "max_drops": 1}
    )
    row = row_of(write_clip(tmp_path / "clip.mp4"))
    _, requests = run_group(changed, processor, row, expected=GROUP_SIZE + GROUP_SIZE // 2)
    originals, perturbed = split_requests(requests)
    (number,) = [n for n in range(6) if not torch.equal(frames_of(perturbed[0])[n], frames_of(originals[0])[n])]
    dropped = frames_of(perturbed[0])[number]
    if fill == "black":
        assert not dropped.any()
        return
    assert dropped.flatten(1).unique(dim=1).shape == (3, 1)  # one colour
    video = processor.video_processor
    shown = video(videos=[dropped.expand(2, -1, -1, -1)], return_tensors="pt", do_sample_frames=False)
    # Half a step of 8 bits, in units of the smallest standard deviation.
    assert shown["pixel_values_videos"].abs().max() <= 0.5 / 255 / min(video.image_std) + 1e-6


@pytest.mark.parametrize(("length", "expected"), [(None, None), (9, 9)])
def test_validation_may_have_shorter_responses(config, processor, tmp_path, length, expected):
    changed = config.copy()
    changed.vqathinker.validation_response_length = length
    row = row_of(write_clip(tmp_path / "clip.mp4"), split="val")
    _, requests = run_group(changed, processor, row, is_validation=True, sessions=1, expected=1)
    assert requests[0]["sampling_params"].get("max_tokens") == expected
    _, requests = run_group(changed, processor, row | {"uid": uuid4().hex}, sessions=1, expected=2)
    assert all("max_tokens" not in request["sampling_params"] for request in requests)


def test_a_clip_of_one_frame_is_left_out_of_the_comparison(config, processor, tmp_path):
    row = row_of(write_clip(tmp_path / "still.mp4", num_frames=1))
    outputs, requests = run_group(config, processor, row, expected=GROUP_SIZE)
    assert len(requests) == GROUP_SIZE
    assert {output.extra_fields["perturbation"] for output in outputs} == {None}


@pytest.mark.parametrize("redraw_identity", [True, False])
@pytest.mark.parametrize("is_validation", [False, True])
def test_an_image_is_left_out_of_the_comparison(config, processor, tmp_path, redraw_identity, is_validation):
    changed = config.copy()
    changed.vqathinker.temporal.in_validation = True
    changed.vqathinker.temporal.perturbations.redraw_identity = redraw_identity
    picture = np.random.default_rng(0).integers(0, 255, (84, 84, 3), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "still.png")
    row = row_of(tmp_path / "still.png")
    row["raw_prompt"][0]["content"][0]["image_frames"] = 2  # as the dataset writes it
    outputs, requests = run_group(changed, processor, row, is_validation=is_validation, expected=GROUP_SIZE)
    assert len(requests) == GROUP_SIZE
    assert {output.extra_fields["perturbed_response"] for output in outputs} == {None}
    assert all(output.extra_fields["response_text"] for output in outputs)
    for request in requests:
        np.testing.assert_array_equal(frames_of(request).numpy(), np.stack([picture.transpose(2, 0, 1)] * 2))
        (metadata,) = request["mm_processor_kwargs"]["video_metadata"]
        assert metadata == {"fps": 1.0, "frames_indices": [0, 0], "total_num_frames": 1}
    pad = processor.tokenizer.convert_tokens_to_ids("<|video_pad|>")
    assert outputs[0].prompt_ids.count(pad) == (84 // 28) ** 2


def test_a_broken_video_is_named_to_every_session_and_decoded_once(config, processor, tmp_path):
    path = tmp_path / "broken.mp4"
    path.write_bytes(b"not a video")
    outputs, requests = run_group(config, processor, row_of(path), expected=1)
    assert requests == []
    assert all(isinstance(output, VideoError) and "broken.mp4" in str(output) for output in outputs)


def test_a_row_without_its_id_says_what_to_do(config, processor, tmp_path):
    row = row_of(write_clip(tmp_path / "clip.mp4"))
    row["extra_info"]["video_id"] = None
    outputs, _ = run_group(config, processor, row, expected=1)
    assert all("vqathinker prepare" in str(output) for output in outputs)


def test_the_trainer_gets_the_features_that_verl_would_compute_again(config, processor, tmp_path, queue_of_features):
    row = row_of(write_clip(tmp_path / "clip.mp4"))
    outputs, _ = run_group(config, processor, row, expected=GROUP_SIZE + GROUP_SIZE // 2)
    output = outputs[0]
    worker = object.__new__(loops.VideoQualityAgentLoopWorker)  # its __init__ loads a model and joins Ray
    worker.processor, worker.tokenizer, worker.mm_processor_kwargs = processor, processor.tokenizer, {}
    input_ids = torch.tensor(output.prompt_ids + output.response_ids)
    stored = worker._compute_multi_modal_inputs(output, input_ids)
    assert stored.keys() & {"pixel_values_videos", features.STORED} == {features.STORED}
    assert [uid for _, uid, _ in queue_of_features.puts] == [row["uid"]]  # once for all responses
    batch = TensorDict({"multi_modal_inputs": NonTensorStack(stored)}, 1)
    (ours,) = asyncio.run(features.with_features(batch))["multi_modal_inputs"]
    assert features.STORED not in ours
    output.multi_modal_data.pop("features")
    stock = worker._compute_multi_modal_inputs(output, input_ids)
    compared = {"pixel_values_videos", "video_grid_thw", "second_per_grid_ts"}
    assert compared <= ours.keys() & stock.keys()
    for name in compared:
        torch.testing.assert_close(torch.as_tensor(ours[name]), torch.as_tensor(stock[name]))


def test_validation_stores_no_pixels_and_its_positions_are_the_same(config, processor, tmp_path, queue_of_features):
    """verl holds on to a validation batch's features until its last answer is there."""
    path = write_clip(tmp_path / "clip.mp4")
    trained, _ = run_group(config, processor, row_of(path), sessions=1, expected=2)
    validated, _ = run_group(config, processor, row_of(path), is_validation=True, sessions=1, expected=1)
    worker = object.__new__(loops.VideoQualityAgentLoopWorker)
    worker.processor = processor
    ids = torch.tensor([trained[0].prompt_ids])
    rows = [worker._compute_multi_modal_inputs(outputs[0], ids) for outputs in (trained, validated)]
    assert len(queue_of_features.puts) == 1
    assert set(rows[0]) - set(rows[1]) == {features.STORED}
    assert all(torch.as_tensor(value).nbytes < 10_000 for value in rows[1].values())
    for name, value in rows[1].items():
        torch.testing.assert_close(torch.as_tensor(value), torch.as_tensor(rows[0][name]))


class TestTimes:
    def test_every_request_carries_the_times_of_its_frames(self, config, processor, tmp_path):
        path = write_clip(tmp_path / "clip.mp4", num_frames=24)
        outputs, requests = run_group(config, processor, row_of(path), expected=GROUP_SIZE + GROUP_SIZE // 2)
        assert {output.extra_fields["perturbation"] is not None for output in outputs} == {True, False}
        for request in requests:  # the perturbed copies' too
            times = request["mm_processor_kwargs"]
            assert times["video_metadata"] == [
                {"fps": 24.0, "frames_indices": [1, 5, 9, 13, 16, 20], "total_num_frames": 24}
            ]
            assert times["do_sample_frames"] is False

    def test_an_older_run_continues_at_24_frames_per_second(self, config, processor, tmp_path):
        changed = config.copy()
        changed.data.frames.true_times = False
        _, requests = run_group(changed, processor, row_of(write_clip(tmp_path / "clip.mp4")), sessions=1, expected=2)
        for request in requests:
            (metadata,) = request["mm_processor_kwargs"]["video_metadata"]
            assert metadata == {"fps": 24.0, "frames_indices": [0, 1, 2, 3, 4, 5], "total_num_frames": 6}

    def test_a_model_that_does_not_count_seconds_is_given_none(self, config, processor, tmp_path, monkeypatch):
        monkeypatch.setattr(processor, "config", SimpleNamespace(model_type="qwen3_vl"))
        _, requests = run_group(config, processor, row_of(write_clip(tmp_path / "clip.mp4")), sessions=1, expected=2)
        assert all(not request["mm_processor_kwargs"] for request in requests)

    def test_the_positions_of_the_trainer_have_the_clips_seconds(self, config, processor, tmp_path):
        """6 frames of a clip of 10 s: a patch each 10/3 s, two positions per second, and the text after the largest."""
        path = write_clip(tmp_path / "clip.mp4", num_frames=240)
        outputs, _ = run_group(config, processor, row_of(path), sessions=1, expected=2)
        worker = object.__new__(loops.VideoQualityAgentLoopWorker)
        worker.processor, worker.tokenizer, worker.mm_processor_kwargs = processor, processor.tokenizer, {}
        patches.use_times_of_the_rollouts(processor, "float32")
        ids = torch.tensor([outputs[0].prompt_ids + outputs[0].response_ids])
        inputs = worker._compute_multi_modal_inputs(outputs[0], ids)
        positions = worker._compute_position_ids(ids, torch.ones_like(ids), inputs)[0]
        is_video = ids[0] == processor.video_token_id
        begin = int(is_video.nonzero()[0])
        assert sorted(set(positions[1][is_video].tolist())) == [begin, begin + 6, begin + 13]
        after = int(is_video.nonzero()[-1]) + 1
        assert positions[1:, after].tolist() == [begin + 14] * 3

    def test_a_dtype_that_says_nothing_is_refused(self, processor):
        with pytest.raises(ValueError, match=r"rollout\.dtype is auto"):
            patches.use_times_of_the_rollouts(processor, "auto")


class TestDrawVisiblePerturbation:
    def video(self, source_frames):
        return torch.zeros(len(source_frames), 3, 4, 4), {"frames_indices": source_frames}

    def test_a_change_among_equal_frames_is_drawn_again(self):
        source = np.array([0, 0, 0, 1])
        for number in range(200):
            perturbation = loops.draw_visible_perturbation(
                self.video(source.tolist()), perturbation_rng(0, number, "v"), PerturbationConfig()
            )
            assert perturbation.black.any() or (source[perturbation.indices] != source).any()

    def test_one_frame_cannot_be_perturbed(self):
        rng = perturbation_rng(0, 0, "v")
        assert loops.draw_visible_perturbation(self.video([5, 5, 5, 5]), rng, PerturbationConfig()) is None

    def test_perturb_shows_the_frames_in_the_drawn_order_and_leaves_the_original(self):
        frames = torch.arange(1, 5).float().reshape(4, 1, 1, 1)
        drawn = SimpleNamespace(indices=np.array([3, 2, 1, 0]), black=np.array([False, True, False, False]))
        perturbed, metadata = loops.perturb((frames, {"fps": 24.0}), drawn, torch.zeros(1, 1, 1))
        assert perturbed.flatten().tolist() == [4.0, 0.0, 2.0, 1.0]
        assert frames.flatten().tolist() == [1.0, 2.0, 3.0, 4.0]
        assert metadata == {"fps": 24.0}
