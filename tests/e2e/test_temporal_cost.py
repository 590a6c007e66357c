"""What the temporal pair costs in sampled tokens, and that it can be switched off."""

import pytest
from e2e_runs import START_SECONDS, read_jsonl, start_recipe

pytestmark = [pytest.mark.e2e, pytest.mark.soak]

GROUP_SIZE = 4


@pytest.mark.parametrize(
    ("override", "per_video"), [("vqathinker.temporal.enable=false", 0), ("vqathinker.temporal.perturbed_n=1", 1)]
)
def test_fewer_perturbed_responses_cost_fewer_tokens(demo, tmp_path, override, per_video):
    run = start_recipe(
        demo,
        tmp_path,
        override,
        f"actor_rollout_ref.rollout.n={GROUP_SIZE}",
        "data.train_batch_size=8",
        "actor_rollout_ref.actor.ppo_mini_batch_size=8",
        "trainer.val_before_train=false",
        "trainer.test_freq=-1",
        "trainer.save_freq=-1",
        TOTAL_STEPS="2",
    )
    assert run.wait(START_SECONDS) == 0
    steps = read_jsonl(tmp_path / "metrics.jsonl")
    assert [line["step"] for line in steps] == [1, 2]
    for line in steps:
        share = line["rollout/perturbed_tokens"] / line["rollout/original_tokens"]
        assert line["rollout/perturbed_responses"] == 8 * per_video
        assert share == pytest.approx(per_video / GROUP_SIZE, abs=0.08)
        assert (line["reward/temporal"] == 0.0) == (per_video == 0)
