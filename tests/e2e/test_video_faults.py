"""Ten videos of one run are deleted, cut off or replaced while it trains: each is counted and named, and nothing else.

VQATHINKER_FAULT_SEED sets which videos, how and when.
"""

import os
import random
import shutil
import time
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet
import pytest
from helpers.runs import START_SECONDS, prepare_demo, read_jsonl, scored_again, start_recipe

pytestmark = [pytest.mark.e2e, pytest.mark.soak]

SEED = int(os.environ.get("VQATHINKER_FAULT_SEED", "0"))
FAULTS, VALIDATION_FAULTS = 10, 2
GROUP_SIZE, VIDEOS_A_STEP, EPOCH, VALIDATION_SAMPLES = 4, 8, 3, 2  # EPOCH: steps in which all 24 videos are due
LAST_FAULT_IN, STEPS = 14, 24  # the last epoch meets every fault


def delete(path):
    path.unlink()


def put_garbage(path):
    path.write_bytes(random.Random(path.name).randbytes(20_000))


def put_fifo(path):
    """A pipe without a writer: opening it blocks for ever."""
    path.unlink()
    os.mkfifo(path)


def cut_off(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path):
    path.write_bytes(b"")


KINDS = (delete, put_garbage, put_fifo, cut_off, empty)


@pytest.fixture(scope="module")
def own_demo(demo, tmp_path_factory):
    """A copy of the demo whose videos may be damaged."""
    folder = tmp_path_factory.mktemp("own") / "demo"
    shutil.copytree(demo, folder)
    prepare_demo(folder)
    return folder


@pytest.fixture(scope="module")
def run(own_demo, tmp_path_factory):
    output_dir = tmp_path_factory.mktemp("faults")
    rng = random.Random(SEED)
    train, val = (sorted((own_demo / "videos").glob(f"{split}_*.mp4")) for split in ("train", "val"))
    kinds = [KINDS[number % len(KINDS)] for number in range(FAULTS)]
    plan = sorted(
        zip([rng.uniform(1, LAST_FAULT_IN) for _ in kinds], rng.sample(train, FAULTS), kinds, strict=True),
        key=lambda fault: fault[0],
    )
    started = start_recipe(
        own_demo,
        output_dir,
        f"actor_rollout_ref.rollout.n={GROUP_SIZE}",
        f"data.train_batch_size={VIDEOS_A_STEP}",
        f"actor_rollout_ref.actor.ppo_mini_batch_size={VIDEOS_A_STEP}",
        f"actor_rollout_ref.rollout.val_kwargs.n={VALIDATION_SAMPLES}",
        "data.frames.cache_bytes=0",  # what is kept is not read again
        "trainer.val_before_train=false",
        f"trainer.test_freq={STEPS}",
        "trainer.save_freq=-1",
        TOTAL_STEPS=str(STEPS),
    )
    damaged = {}  # video -> when, how
    for moment, path, damage in plan:
        step = output_dir / "rollouts" / f"{int(moment)}.jsonl"
        started.wait_until(step.exists, START_SECONDS)
        time.sleep(2 * (moment % 1))
        damage(path)
        damaged[path.name] = (time.time(), damage.__name__)
        print(f"{damage.__name__} {path.name}, after step {int(moment)}")
    for path in rng.sample(val, VALIDATION_FAULTS):
        delete(path)
    taken = len(list((output_dir / "rollouts").glob("*.jsonl")))
    assert taken < STEPS - EPOCH - 1, "the faults came too late to be met"
    code = started.wait(START_SECONDS)
    ended = {step: (output_dir / "rollouts" / f"{step}.jsonl").stat().st_mtime for step in range(1, STEPS + 1)}
    return SimpleNamespace(
        code=code,
        damaged=damaged,
        ended=ended,
        rollouts={step: read_jsonl(output_dir / "rollouts" / f"{step}.jsonl") for step in ended},
        metrics={line["step"]: line for line in read_jsonl(output_dir / "metrics.jsonl")},
        log=(output_dir / "train.log").read_text(errors="replace"),
        left_behind=started.marked_processes(),
        demo=own_demo,
    )


def test_the_run_continues_to_its_end(run):
    assert run.code == 0, run.log[-3000:]
    assert len(run.damaged) == FAULTS
    assert run.left_behind == []


def test_every_lost_response_is_counted(run):
    for step, lines in run.rollouts.items():
        assert run.metrics[step]["rollout/total_failed_responses"] == GROUP_SIZE * VIDEOS_A_STEP - len(lines)
    lost = sum(run.metrics[step]["rollout/total_failed_responses"] for step in run.rollouts)
    last = sum(run.metrics[step]["rollout/total_failed_responses"] for step in range(STEPS - EPOCH + 1, STEPS + 1))
    print(f"{lost:.0f} responses lost in {STEPS} steps, {last:.0f} in the last epoch")
    assert last == GROUP_SIZE * FAULTS
    assert run.metrics[STEPS]["val/failed_responses"] == VALIDATION_SAMPLES * VALIDATION_FAULTS


def test_no_response_to_a_damaged_video_is_trained_on(run):
    for step, lines in run.rollouts.items():
        shown = {line["video_id"] for line in lines}
        # A step's videos are decoded when the one before has ended, or later.
        before = {name for name, (when, _) in run.damaged.items() if step > 1 and when < run.ended[step - 1]}
        assert not {video for video in shown for name in before if name.split(".")[0] in video}, step


def test_every_other_video_is_present_and_complete(run):
    last = [line for step in range(STEPS - EPOCH + 1, STEPS + 1) for line in run.rollouts[step]]
    responses = {}
    for line in last:
        responses[line["video_id"]] = responses.get(line["video_id"], 0) + 1
    assert set(responses.values()) == {GROUP_SIZE}
    assert len(responses) == EPOCH * VIDEOS_A_STEP - FAULTS


def test_every_damaged_video_is_named_in_the_log(run):
    for name, (_, kind) in run.damaged.items():
        assert f"{name}: " in run.log, (name, kind)


def test_the_others_rewards_are_those_of_their_texts_and_labels(run):
    table = pyarrow.parquet.read_table(run.demo / "train.parquet").to_pylist()
    mos = {row["extra_info"]["video_id"]: row["reward_model"]["ground_truth"] for row in table}
    for step, lines in run.rollouts.items():
        assert all(line["mos"] == mos[line["video_id"]] for line in lines)
        rewards = scored_again(lines)
        for name in ("regression", "ranking", "temporal", "format", "total"):
            np.testing.assert_allclose(getattr(rewards, name), [line[name] for line in lines], atol=1e-6)
        assert run.metrics[step]["critic/score/mean"] == pytest.approx(rewards.total.mean(), abs=1e-5)
