"""A hundred steps: memory of all processes together stays flat."""

import statistics

import pytest
from e2e_runs import START_SECONDS, read_jsonl, start_recipe

pytestmark = [pytest.mark.e2e, pytest.mark.soak]

STEPS, SETTLED = 100, 10


def test_memory_is_flat_over_a_hundred_steps(demo, tmp_path):
    run = start_recipe(
        demo,
        tmp_path,
        "actor_rollout_ref.rollout.n=4",
        "data.train_batch_size=8",
        "actor_rollout_ref.actor.ppo_mini_batch_size=8",
        "trainer.val_before_train=false",
        "trainer.test_freq=-1",
        "trainer.save_freq=-1",
        TOTAL_STEPS=str(STEPS),
    )
    assert run.wait(START_SECONDS + STEPS * 30) == 0
    ended = {step: (tmp_path / "rollouts" / f"{step}.jsonl").stat().st_mtime for step in range(1, STEPS + 1)}
    samples = read_jsonl(tmp_path / "memory.jsonl")

    def median_bytes(first, last):
        return statistics.median(s["bytes"] for s in samples if ended[first] <= s["time"] <= ended[last])

    early, late = median_bytes(SETTLED, SETTLED + 20), median_bytes(STEPS - 20, STEPS)
    print(f"memory: {early / 2**30:.2f} GiB in steps {SETTLED}-{SETTLED + 20}, {late / 2**30:.2f} GiB in the last 20")
    assert late <= 1.05 * early
