import json
import math

import numpy as np
import pandas
import pytest
from verl.trainer.ppo.v1.utils import MetricsAggregator

from vqathinker_verl.plugin.rollouts import dump_rollouts, rollout_metrics, score_rollouts
from vqathinker_verl.rewards.batch import score_batch
from vqathinker_verl.rewards.config import RewardConfig
from vqathinker_verl.rewards.extra import TAKEN, ExtraReward


def answer(score):
    return f"<think>seen</think><answer>{score:.2f}</answer>"


def table(**changes):
    """Two videos with three responses and one; the first also has two perturbed responses."""
    columns = {
        "uid": ["a", "b", "a", "a"],
        "video_id": ["demo/a", "demo/b", "demo/a", "demo/a"],
        "data_source": ["demo"] * 4,
        "mos": [4.0, 2.0, 4.0, 4.0],
        "chain": [None] * 4,
        "strength": [math.nan] * 4,
        "response": [answer(4.0), answer(2.5), "no answer", answer(3.6)],
        "num_tokens": [9, 9, 2, 9],
        "perturbation": ["reverse", None, "reverse", None],
        "perturbed_response": [answer(1.2), None, answer(1.4), None],
        "perturbed_tokens": [9, 0, 9, 0],
    }
    return pandas.DataFrame(columns | changes)


def read_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_score_is_score_batch_over_everything():
    config = RewardConfig(sigma=0.7)
    rollouts = table()
    expected = score_batch(
        rollouts["response"].tolist(),
        rollouts["mos"].to_numpy(),
        rollouts["uid"].tolist(),
        perturbed_responses=[answer(1.2), answer(1.4)],
        perturbed_group_ids=["a", "a"],
        data_sources=rollouts["data_source"].tolist(),
        config=config,
    )
    rewards = score_rollouts(rollouts, config)
    np.testing.assert_array_equal(rewards.total, expected.total)
    assert rewards.temporal[0] > 0  # the original ranks better than its perturbed copy
    assert rewards.total[2] == 0.0  # no score, no format


def test_extra_rewards_see_the_full_step_and_are_logged_and_dumped(tmp_path):
    seen = []

    def reward(batch, *, worth):
        seen.append(batch)
        return np.where(np.isnan(batch.pred_mos), np.nan, worth)

    rollouts, config = table(), RewardConfig()
    plain = score_rollouts(rollouts, config)
    rewards = score_rollouts(rollouts, config, {"answered": ExtraReward(reward, weight=0.5, kwargs={"worth": 2.0})})
    assert seen[0].video_ids == tuple(rollouts["video_id"])
    assert seen[0].data_sources == tuple(rollouts["data_source"])
    assert seen[0].perturbed.perturbations == ("reverse", "reverse")
    np.testing.assert_array_equal(seen[0].perturbed.group_index, [0, 0])
    np.testing.assert_allclose(rewards.total - plain.total, [1.0, 1.0, 0.0, 1.0])

    metrics = rollout_metrics(rollouts, rewards, expected_responses=4)
    assert metrics["reward/answered"] == 2.0
    assert metrics["reward/overall"] == pytest.approx(plain.total.mean() + 0.75)

    dump_rollouts(rollouts, rewards, tmp_path / "1.jsonl")
    lines = read_lines(tmp_path / "1.jsonl")
    assert [line["answered"] for line in lines] == [2.0, 2.0, None, 2.0]
    assert [line["total"] for line in lines] == rewards.total.tolist()
    assert lines[0].keys() - {"answered"} <= TAKEN  # no extra reward can hide another column


def test_metrics_count_what_was_lost_and_what_the_pair_cost():
    rollouts = table()
    metrics = rollout_metrics(rollouts, score_rollouts(rollouts, RewardConfig()), expected_responses=6)
    assert metrics["rollout/total_failed_responses"] == 2
    assert metrics["rollout/total_original_tokens"] == 29
    assert metrics["rollout/total_perturbed_tokens"] == 18
    assert metrics["rollout/total_perturbed_responses"] == 2
    assert metrics["rollout/total_videos_without_perturbed"] == 1
    assert metrics["reward/parse_failure_rate"] == pytest.approx(0.25)


def test_metric_names_do_not_depend_on_the_batch():
    bare = table(perturbation=[None] * 4, perturbed_response=[None] * 4, perturbed_tokens=[0] * 4)
    names = [set(rollout_metrics(it, score_rollouts(it, RewardConfig()), 4)) for it in (table(), bare)]
    assert names[0] == names[1]


def test_verl_averages_the_rewards_of_several_updates_and_adds_up_what_was_counted():
    rollouts, aggregator = table(), MetricsAggregator()
    updates = [
        rollout_metrics(part, score_rollouts(part, RewardConfig()), expected_responses=4)
        for part in (rollouts, rollouts[:2])
    ]
    for update, responses in zip(updates, (4, 2), strict=True):
        aggregator.add_step_metrics(update, sample_count=responses)
    step = aggregator.get_aggregated_metrics()
    assert step["rollout/total_failed_responses"] == 2
    assert step.keys() == updates[0].keys()
    for name, value in step.items():
        first, second = updates[0][name], updates[1][name]
        expected = first + second if name.startswith("rollout/") else (4 * first + 2 * second) / 6
        assert value == pytest.approx(expected, nan_ok=True), name


def test_the_dump_holds_every_component_of_every_response(tmp_path):
    rollouts = table()
    rewards = score_rollouts(rollouts, RewardConfig())
    dump_rollouts(rollouts, rewards, tmp_path / "new" / "1.jsonl")
    lines = read_lines(tmp_path / "new" / "1.jsonl")
    assert list(lines[0]) == [
        *("update", "uid", "video_id", "data_source", "mos", "chain", "strength"),
        *("response", "perturbation", "perturbed_response"),
        *("pred_mos", "regression", "ranking", "temporal", "format", "total"),
    ]
    for name in ("uid", "video_id", "mos", "response"):
        assert [line[name] for line in lines] == rollouts[name].tolist()
    for name in ("regression", "ranking", "temporal", "format", "total"):
        assert [line[name] for line in lines] == getattr(rewards, name).tolist()
    assert [line["pred_mos"] for line in lines] == [4.0, 2.5, None, 3.6]  # JSON has no NaN
    assert [line["perturbation"] for line in lines] == ["reverse", None, "reverse", None]


def test_the_updates_of_one_step_are_in_one_file(tmp_path):
    rollouts, path = table(), tmp_path / "1.jsonl"
    rewards = score_rollouts(rollouts, RewardConfig())
    for update in (0, 1):
        dump_rollouts(rollouts, rewards, path, update)
    assert [line["update"] for line in read_lines(path)] == [0] * 4 + [1] * 4
    dump_rollouts(rollouts, rewards, path)  # the step again, after a restart
    assert len(read_lines(path)) == 4
