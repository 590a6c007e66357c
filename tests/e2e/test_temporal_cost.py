"""What the temporal pair costs, in sampled tokens and in time, and that it can be switched off."""

import numpy as np
import pytest
from helpers.runs import START_SECONDS, read_jsonl, start_recipe

pytestmark = [pytest.mark.e2e, pytest.mark.soak]

GROUP_SIZE, VIDEOS, STEPS = 4, 8, 4
SETTINGS = {
    "off": ("vqathinker.temporal.enable=false", 0),
    "one": ("vqathinker.temporal.num_perturbed=1", 1),
    "half of G": ("vqathinker.temporal.num_perturbed=null", GROUP_SIZE // 2),
}


@pytest.fixture(scope="module")
def steps_of(demo, tmp_path_factory):
    """The metrics of every step, under each setting."""
    steps = {}
    for name, (override, _) in SETTINGS.items():
        folder = tmp_path_factory.mktemp("cost")
        run = start_recipe(
            demo,
            folder,
            override,
            f"actor_rollout_ref.rollout.n={GROUP_SIZE}",
            f"data.train_batch_size={VIDEOS}",
            f"actor_rollout_ref.actor.ppo_mini_batch_size={VIDEOS}",
            "trainer.val_before_train=false",
            "trainer.test_freq=-1",
            "trainer.save_freq=-1",
            TOTAL_STEPS=str(STEPS),
        )
        assert run.wait(START_SECONDS) == 0
        steps[name] = read_jsonl(folder / "metrics.jsonl")
    print_ratios(steps)
    return steps


def print_ratios(steps):
    """Time with the pair over time without it; for reading (pytest -s). The first step, which warms up, is left out."""
    seconds = {
        name: {field: np.mean([line[f"timing_s/{field}"] for line in lines[1:]]) for field in ("gen", "step")}
        for name, lines in steps.items()
    }
    for name in ("one", "half of G"):
        ratios = {field: seconds[name][field] / seconds["off"][field] for field in ("gen", "step")}
        print(f"num_perturbed {name}: generation x{ratios['gen']:.2f}, step x{ratios['step']:.2f} of those without it")


@pytest.mark.parametrize("setting", SETTINGS)
def test_perturbed_responses_cost_their_share_of_tokens(steps_of, setting):
    per_video = SETTINGS[setting][1]
    assert [line["step"] for line in steps_of[setting]] == list(range(1, STEPS + 1))
    for line in steps_of[setting]:
        share = line["rollout/total_perturbed_tokens"] / line["rollout/total_original_tokens"]
        assert line["rollout/total_perturbed_responses"] == VIDEOS * per_video
        assert share == pytest.approx(per_video / GROUP_SIZE, abs=0.08)
        assert (line["reward/temporal"] == 0.0) == (per_video == 0)
