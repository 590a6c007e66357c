"""Ten steps in one run, and five, a SIGKILL of everything and five more: the same training."""

import re

import numpy as np
import pytest
from helpers.runs import START_SECONDS, read_jsonl, start_recipe

pytestmark = [pytest.mark.e2e, pytest.mark.soak]

STEPS, SAVED_AT = 10, 5
SEEDED = [
    "vqathinker.sampling_seed=0",
    "actor_rollout_ref.rollout.n=4",
    "data.train_batch_size=8",
    "actor_rollout_ref.actor.ppo_mini_batch_size=8",
    f"trainer.save_freq={SAVED_AT}",
    "trainer.val_before_train=false",
    "trainer.test_freq=-1",
]


@pytest.fixture(scope="module")
def folders(demo, tmp_path_factory):
    """OUTPUT_DIR of the run in one go, and of the one in two parts."""
    whole = tmp_path_factory.mktemp("whole")
    assert start_recipe(demo, whole, *SEEDED, TOTAL_STEPS=str(STEPS)).wait(START_SECONDS) == 0
    parts = tmp_path_factory.mktemp("parts")
    first = start_recipe(demo, parts, *SEEDED, TOTAL_STEPS=str(STEPS))
    first.wait_until(lambda: SAVED_AT in logged(parts), START_SECONDS)  # which is after it was saved
    first.kill_everything()
    for path in (parts / "rollouts").glob("*.jsonl"):
        if int(path.stem) > SAVED_AT:
            path.unlink()
    assert start_recipe(demo, parts, *SEEDED, TOTAL_STEPS=str(STEPS)).wait(START_SECONDS) == 0
    return whole, parts


def logged(folder):
    """The steps that verl has logged in all starts so far; a line that is being written is not counted."""
    files = (folder / "metrics").glob("*.jsonl")
    return {int(step) for file in files for step in re.findall(r'^\{"step":(\d+),.*\}$', file.read_text(), re.M)}


def steps_of(folder):
    """Per step: (video, perturbation) of every response in order of video, with the responses and their rewards."""
    steps = []
    for step in range(1, STEPS + 1):
        lines = read_jsonl(folder / "rollouts" / f"{step}.jsonl")
        steps.append(sorted(lines, key=lambda line: (line["video_id"], line["response"])))
    return steps


def test_the_same_videos_and_perturbations_in_every_step(folders):
    for one, other in zip(*map(steps_of, folders), strict=True):
        assert [line["video_id"] for line in one] == [line["video_id"] for line in other]
        shown = [{(line["video_id"], line["perturbation"]) for line in lines} for lines in (one, other)]
        assert shown[0] == shown[1]


def test_the_same_responses_and_rewards(folders):
    """As far as the stack allows: the sampler's sums depend in their last digits on which requests met in a batch."""
    equal = []
    for step, (one, other) in enumerate(zip(*map(steps_of, folders), strict=True), start=1):
        same = [a["response"] == b["response"] for a, b in zip(one, other, strict=True)]
        totals = [np.mean([line["total"] for line in lines]) for lines in (one, other)]
        print(f"step {step}: {np.mean(same):.0%} of the responses equal, mean reward {totals[0]:.4f} {totals[1]:.4f}")
        equal.append(np.mean(same))
    assert min(equal) > 0.8, equal
    assert np.mean(equal) > 0.9, equal


def test_no_step_is_logged_twice_or_lost(folders):
    for folder in folders:
        steps = [line["step"] for line in read_jsonl(folder / "metrics.jsonl")]
        assert steps == sorted(set(steps))
        assert set(range(1, STEPS + 1)) <= set(steps)


def test_no_video_is_shown_twice_in_an_epoch(folders):
    """24 training videos, 8 a step: three steps show each once, across the resumption too."""
    for folder in folders:
        steps = [{line["video_id"] for line in lines} for lines in steps_of(folder)]
        for start in (0, 3, 6):
            assert len(set().union(*steps[start : start + 3])) == 24
