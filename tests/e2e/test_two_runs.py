"""Two runs on one machine at the same time do not touch each other, and none gets into the other's OUTPUT_DIR."""

import time
from types import SimpleNamespace

import numpy as np
import psutil
import pyarrow.parquet
import pytest
from helpers.runs import START_SECONDS, read_jsonl, scored_again, start_recipe

from vqathinker_verl.runner.shared_memory import orphaned_shared_memory

pytestmark = [pytest.mark.e2e, pytest.mark.soak]

NEEDED_GIB = 19
STEPS, AFTER_KILL = 16, 3
OVERRIDES = [
    "actor_rollout_ref.rollout.n=4",
    "data.train_batch_size=8",
    "actor_rollout_ref.actor.ppo_mini_batch_size=8",
    "trainer.val_before_train=false",
    "trainer.test_freq=-1",
    "trainer.save_freq=-1",
]


def steps_of(folder):
    return {int(path.stem): read_jsonl(path) for path in (folder / "rollouts").glob("*.jsonl")}


@pytest.fixture(scope="module")
def runs(demo, tmp_path_factory):
    """One learns from the training clips; the other one from the validation clips, and never moves its weights.

    Both take steps; a third start wants the first one's folder; the first one is killed, and the other ends its steps.
    """
    free = psutil.virtual_memory().available / 2**30
    if free < NEEDED_GIB:
        pytest.skip(f"two runs take {NEEDED_GIB} GiB of memory; {free:.0f} are free")
    one_folder, other_folder = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("other")
    started = time.time()
    one = start_recipe(demo, one_folder, *OVERRIDES, TOTAL_STEPS="100000")
    still = "actor_rollout_ref.actor.optim.lr=0"
    other = start_recipe(
        demo, other_folder, *OVERRIDES, still, TRAIN_FILES=f"{demo}/val.parquet", TOTAL_STEPS=str(STEPS)
    )
    both = 2 * START_SECONDS
    one.wait_until(lambda: len(steps_of(one_folder)) >= 2 and len(steps_of(other_folder)) >= 2, both)
    intruder = start_recipe(demo, one_folder, *OVERRIDES)
    refused = SimpleNamespace(code=intruder.wait(120), text=one.text())
    together = len(steps_of(other_folder))
    one.kill_everything()
    code = other.wait(both)
    return SimpleNamespace(
        one=steps_of(one_folder),
        other=steps_of(other_folder),
        metrics=[{line["step"]: line for line in read_jsonl(path)} for path in one_folder.glob("metrics/*.jsonl")]
        + [{line["step"]: line for line in read_jsonl(path)} for path in other_folder.glob("metrics/*.jsonl")],
        refused=refused,
        together=together,
        code=code,
        end=other.text()[-3000:],
        left_behind=(other.marked_processes(), orphaned_shared_memory(since=started)),
    )


def test_a_folder_in_use_is_refused_in_one_line(runs):
    assert runs.refused.code == 2
    said = [line for line in runs.refused.text.splitlines() if "another run uses this OUTPUT_DIR" in line]
    assert len(said) == 1
    assert said[0].startswith("vqathinker: ")


def test_the_kill_of_one_does_not_reach_the_other(runs):
    assert runs.together <= STEPS - AFTER_KILL, "the kill came too late to tell"
    assert runs.code == 0, runs.end
    assert len(runs.other) == STEPS
    assert runs.left_behind[0] == []


def test_each_sees_its_own_videos_and_labels(demo, runs):
    for split, steps in (("train", runs.one), ("val", runs.other)):
        table = pyarrow.parquet.read_table(demo / f"{split}.parquet").to_pylist()
        mos = {row["extra_info"]["video_id"]: row["reward_model"]["ground_truth"] for row in table}
        for lines in steps.values():
            assert len(lines) == 32
            assert all(mos[line["video_id"]] == line["mos"] for line in lines)
            rewards = scored_again(lines)
            np.testing.assert_allclose(rewards.total, [line["total"] for line in lines], atol=1e-6)


def test_each_samples_from_its_own_weights(runs):
    """The still one's policy is its reference in every step; the other's is not, and both samplers follow."""
    one, other = ({step: line["data"] for step, line in metrics.items()} for metrics in runs.metrics)
    for metrics in (one, other):
        assert all(line["training/rollout_probs_diff_max"] < 0.02 for line in metrics.values())
    assert all(line["actor/kl_loss"] < 1e-6 for line in other.values())
    assert one[max(one)]["actor/kl_loss"] > 1e-6
