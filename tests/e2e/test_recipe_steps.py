"""Every recipe takes two real steps without a GPU, with a tiny random model of its own architecture.

What a recipe sets stays as it is, but for sizes. The answers are noise, so the rewards are mostly 0; that they are
computed, that the weights move and reach vLLM, is what is looked at.
"""

import math
import os
from collections import defaultdict
from itertools import pairwise

import numpy as np
import pytest
from helpers.runs import ROOT, START_SECONDS, read_jsonl, scored_again, start_recipe
from helpers.tiny_models import SIDE, save_tiny

pytestmark = [pytest.mark.e2e, pytest.mark.soak]

STEPS, VIDEOS, GROUP_SIZE = 2, 8, 4
MICRO_BATCHES = [
    "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=8",
    "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=8",
    "actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu=8",
]
SIZES = [
    "data.max_response_length=24",
    "data.dataloader_num_workers=0",
    *MICRO_BATCHES,
    f"actor_rollout_ref.rollout.n={GROUP_SIZE}",
    "actor_rollout_ref.rollout.gpu_memory_utilization=0.2",
    "actor_rollout_ref.rollout.max_num_seqs=32",
    "actor_rollout_ref.rollout.agent.num_workers=1",
    "+actor_rollout_ref.rollout.engine_kwargs.vllm.skip_mm_profiling=true",
    "trainer.val_before_train=false",
    "trainer.test_freq=-1",
    "trainer.save_freq=-1",
    "trainer.total_epochs=10",
]


def frames(architecture):
    if architecture == "internvl":  # one size only
        size = f"[{SIDE[architecture]}, {SIDE[architecture]}]"
        return [f"data.frames.{split}.size={size}" for split in ("train", "val")]
    return [f"data.frames.{split}.max_pixels={SIDE[architecture] ** 2}" for split in ("train", "val")]


def batch(videos, mini_batch=VIDEOS):
    return [f"data.train_batch_size={videos}", f"actor_rollout_ref.actor.ppo_mini_batch_size={mini_batch}"]


# Without run_multi_node, which is the first of these on more machines (test_two_nodes.py).
RECIPES = {
    "run_qwen2_5_vl_7b": ("qwen2_5_vl", batch(VIDEOS)),
    "run_qwen2_5_vl_3b_1gpu": ("qwen2_5_vl", batch(VIDEOS)),
    "run_qwen2_5_vl_7b_lora": ("qwen2_5_vl", [*batch(VIDEOS), "actor_rollout_ref.model.lora_rank=8"]),
    "run_qwen3_vl_8b": ("qwen3_vl", batch(VIDEOS)),
    "run_qwen3_vl_8b_lora": ("qwen3_vl", [*batch(VIDEOS), "actor_rollout_ref.model.lora_rank=8"]),
    "run_qwen3_vl_2b_1gpu": ("qwen3_vl", batch(VIDEOS)),
    "run_internvl3_8b": ("internvl", batch(VIDEOS)),
    "run_release": (
        "internvl",
        [
            *batch(VIDEOS),
            "vqathinker.validation_response_length=null",  # SIZES has shorter responses
            "actor_rollout_ref.rollout.top_k=-1",  # else vLLM's probabilities are of the 50 likeliest tokens alone
        ],
    ),
    "run_colocate_async": ("qwen2_5_vl", batch(VIDEOS)),
    # Two devices: one to train, one that only generates.
    "run_separate_async": (
        "qwen2_5_vl",
        [
            *batch(VIDEOS, mini_batch=VIDEOS // 2),
            "actor_rollout_ref.rollout.n_gpus_per_node=1",
            "actor_rollout_ref.rollout.checkpoint_engine.custom_backend_module=helpers.zmq_checkpoint_engine",
            "actor_rollout_ref.rollout.load_format=dummy",  # so that what vLLM knows came through the checkpoint engine
            "ray_kwargs.ray_init.num_gpus=2",
            "ray_kwargs.ray_init.num_cpus=12",
        ],
    ),
}


@pytest.mark.parametrize("recipe", RECIPES)
def test_two_steps_on_the_cpu_stack(recipe, demo, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"), prepend=os.pathsep)  # zmq_checkpoint_engine
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests" / "helpers" / "weight_syncs"), prepend=os.pathsep)
    monkeypatch.setenv("WEIGHT_SYNCS", str(tmp_path / "syncs"))
    architecture, overrides = RECIPES[recipe]
    save_tiny(architecture, tmp_path / "model")
    run = start_recipe(
        demo,
        tmp_path / "run",
        *SIZES,
        *frames(architecture),
        *overrides,
        recipe=ROOT / "recipes" / f"{recipe}.sh",
        MODEL_PATH=str(tmp_path / "model"),
        NGPUS_PER_NODE="1",
        TOTAL_STEPS=str(STEPS),
    )
    assert run.wait(START_SECONDS) == 0, run.text()[-3000:]
    assert run.marked_processes() == []
    steps = [line for line in read_jsonl(tmp_path / "run" / "metrics.jsonl") if "reward/overall" in line]
    assert [line["step"] for line in steps] == list(range(1, STEPS + 1))
    for line in steps:
        assert line["rollout/total_failed_responses"] == 0
        assert line["rollout/total_perturbed_responses"] > 0
        # All of the step is dumped and counted; separate_async takes two updates a step.
        rollouts = read_jsonl(tmp_path / "run" / "rollouts" / f"{line['step']}.jsonl")
        assert len(rollouts) == VIDEOS * GROUP_SIZE
        assert line["rollout/total_perturbed_responses"] == sum(
            row["perturbed_response"] is not None for row in rollouts
        )
        assert line["reward/overall"] == pytest.approx(np.mean([row["total"] for row in rollouts]), abs=1e-6)
        assert math.isfinite(line["actor/kl_loss"])
        # A video's features once, none of the step before; asynchronous trainers hold those of later steps, too.
        prompts = line["features/prompts"]
        assert prompts >= VIDEOS if recipe.endswith("async") else prompts == VIDEOS
        assert line["features/bytes"] > 0
    # The sampler's probabilities are the trainer's: prompt, frames and weights are the same on both sides.
    # A random model gives every token about the same probability, so it is their correlation that tells.
    for line in steps:
        # A Qwen2.5-VL counts seconds here: frames that stood at other times on one side would show (.9995).
        least = 0.9999 if architecture == "qwen2_5_vl" else 0.999
        assert line["training/rollout_actor_probs_pearson_corr"] > least
    # vLLM discards its cached video embeddings after every weight update.
    engines = defaultdict(list)
    for line in (tmp_path / "syncs").read_text().splitlines():
        process, _, event = line.partition(" ")
        engines[process].append(event)
    assert sum(events.count("weights") for events in engines.values()) >= STEPS
    for events in engines.values():
        assert events[-1] == "encoder cache reset"
        assert ("weights", "weights") not in pairwise(events)


def test_two_workers_earn_what_one_would(demo, tmp_path):
    """The demo's policy, whose answers parse, on two FSDP workers (gloo) and two vLLM replicas."""
    run = start_recipe(
        demo,
        tmp_path,
        *batch(VIDEOS),
        f"actor_rollout_ref.rollout.n={GROUP_SIZE}",
        *MICRO_BATCHES,
        "actor_rollout_ref.rollout.agent.num_workers=2",
        "ray_kwargs.ray_init.num_cpus=12",
        "trainer.val_before_train=false",
        "trainer.test_freq=-1",
        "trainer.save_freq=-1",
        NGPUS_PER_NODE="2",
        TOTAL_STEPS=str(STEPS),
    )
    assert run.wait(START_SECONDS) == 0, run.text()[-3000:]
    steps = {line["step"]: line for line in read_jsonl(tmp_path / "metrics.jsonl")}
    for step in range(1, STEPS + 1):
        rollouts = read_jsonl(tmp_path / "rollouts" / f"{step}.jsonl")
        rewards = scored_again(rollouts)
        assert len({line["uid"] for line in rollouts}) == VIDEOS
        for name in ("regression", "ranking", "temporal", "format", "total"):
            np.testing.assert_allclose(getattr(rewards, name), [line[name] for line in rollouts], atol=1e-6)
        # What the two workers' advantages came from.
        assert steps[step]["critic/score/mean"] == pytest.approx(rewards.total.mean(), abs=1e-5)
        assert steps[step]["training/rollout_probs_diff_max"] < 0.02
        assert steps[step]["features/prompts"] == VIDEOS  # whatever a worker's share of each prompt is
