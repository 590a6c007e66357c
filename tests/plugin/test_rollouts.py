import json
import math

import numpy as np
import pytest

from vqathinker_verl.plugin.rollouts import Rollouts, step_metrics, validation_metrics
from vqathinker_verl.rewards.batch import score_batch
from vqathinker_verl.rewards.config import RewardConfig
from vqathinker_verl.rewards.extra import TAKEN, ExtraReward


def answer(score):
    return f"<think>seen</think><answer>{score:.2f}</answer>"


def rollouts(**changes):
    """Two videos with three responses and one; the first also has two perturbed responses."""
    fields = {
        "uids": ["a", "b", "a", "a"],
        "video_ids": ["demo/a", "demo/b", "demo/a", "demo/a"],
        "data_sources": ["demo"] * 4,
        "mos": [4.0, 2.0, 4.0, 4.0],
        "responses": [answer(4.0), answer(2.5), "no answer", answer(3.6)],
        "num_tokens": [9, 9, 2, 9],
        "perturbations": ["reverse", None, "reverse", None],
        "perturbed_responses": [answer(1.2), None, answer(1.4), None],
        "perturbed_tokens": [9, 0, 9, 0],
    }
    return Rollouts(**(fields | changes))


def test_the_score_is_score_batch_over_everything():
    config = RewardConfig(sigma=0.7)
    batch = rollouts()
    expected = score_batch(
        batch.responses,
        np.array(batch.mos),
        batch.uids,
        perturbed_responses=[answer(1.2), answer(1.4)],
        perturbed_group_ids=["a", "a"],
        data_sources=batch.data_sources,
        config=config,
    )
    rewards = batch.score(config)
    np.testing.assert_array_equal(rewards.total, expected.total)
    assert rewards.temporal[0] > 0  # the original ranks better than its perturbed copy
    assert rewards.total[2] == 0.0  # no score, no format


def test_extra_rewards_see_the_whole_step_and_are_logged_and_dumped(tmp_path):
    seen = []

    def reward(batch, *, worth):
        seen.append(batch)
        return np.where(np.isnan(batch.pred_mos), np.nan, worth)

    batch, config = rollouts(), RewardConfig()
    plain = batch.score(config)
    rewards = batch.score(config, {"answered": ExtraReward(reward, weight=0.5, kwargs={"worth": 2.0})})
    assert seen[0].video_ids == tuple(batch.video_ids)
    assert seen[0].data_sources == tuple(batch.data_sources)
    assert seen[0].perturbed.perturbations == ("reverse", "reverse")
    np.testing.assert_array_equal(seen[0].perturbed.group_index, [0, 0])
    np.testing.assert_allclose(rewards.total - plain.total, [1.0, 1.0, 0.0, 1.0])

    metrics = batch.metrics(rewards, expected_responses=4)
    assert metrics["reward/answered"] == 2.0
    assert metrics["reward/total"] == pytest.approx(plain.total.mean() + 0.75)
    assert step_metrics([metrics, metrics | {"reward/answered": math.nan}])["reward/answered"] == 2.0

    batch.dump(rewards, tmp_path / "1.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "1.jsonl").read_text().splitlines()]
    assert [line["answered"] for line in lines] == [2.0, 2.0, None, 2.0]
    assert [line["total"] for line in lines] == rewards.total.tolist()
    assert lines[0].keys() - {"answered"} <= TAKEN  # no extra reward can hide another column


def test_metrics_count_what_was_lost_and_what_the_pair_cost():
    batch = rollouts()
    metrics = batch.metrics(batch.score(RewardConfig()), expected_responses=6)
    assert metrics["rollout/failed_responses"] == 2
    assert metrics["rollout/original_tokens"] == 29
    assert metrics["rollout/perturbed_tokens"] == 18
    assert metrics["rollout/perturbed_responses"] == 2
    assert metrics["rollout/videos_without_perturbed"] == 1
    assert metrics["reward/parse_failure_rate"] == pytest.approx(0.25)


def test_metric_names_do_not_depend_on_the_batch():
    full = rollouts()
    bare = rollouts(perturbations=[None] * 4, perturbed_responses=[None] * 4, perturbed_tokens=[0] * 4)
    names = [set(batch.metrics(batch.score(RewardConfig()), 4)) for batch in (full, bare)]
    assert names[0] == names[1]


def test_the_dump_holds_every_component_of_every_response(tmp_path):
    batch = rollouts()
    rewards = batch.score(RewardConfig())
    batch.dump(rewards, tmp_path / "new" / "1.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "new" / "1.jsonl").read_text().splitlines()]
    assert [line["uid"] for line in lines] == batch.uids
    assert [line["total"] for line in lines] == rewards.total.tolist()
    assert lines[2]["pred_mos"] is None  # JSON has no NaN


def test_the_updates_of_one_step_are_in_one_file(tmp_path):
    batch, path = rollouts(), tmp_path / "1.jsonl"
    rewards = batch.score(RewardConfig())
    for update in (0, 1):
        batch.dump(rewards, path, update)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["update"] for line in lines] == [0] * 4 + [1] * 4
    batch.dump(rewards, path)  # the step again, after a restart
    assert len(path.read_text().splitlines()) == 4


def test_a_step_of_several_updates_has_means_sums_and_what_was_last():
    updates = [
        {"reward/total": 2.0, "reward/srcc": math.nan, "rollout/failed_responses": 1.0, "frames/bytes": 10.0},
        {"reward/total": 1.0, "reward/srcc": 0.5, "rollout/failed_responses": 2.0, "frames/bytes": 30.0},
    ]
    for update, excluded in zip(updates, (1.0, 3.0), strict=True):
        update["reward/temporal_excluded"] = excluded
    expected = {
        "reward/temporal_excluded": 4.0,
        "reward/total": 1.5,
        "reward/srcc": 0.5,
        "rollout/failed_responses": 3.0,
        "frames/bytes": 30.0,
    }
    assert step_metrics(updates) == expected
    assert step_metrics(updates[1:]) == updates[1]


class TestValidation:
    def metrics(self, infos, sources=None, uids=None, expected=None):
        count = len(infos["mos"])
        sources = sources or ["demo"] * count
        uids = uids or [str(number) for number in range(count)]
        return validation_metrics(sources, uids, infos, expected or count, RewardConfig())

    def test_correlations_per_data_source(self):
        infos = {"pred_mos": [1.0, 2.0, 3.0, 5.0, 4.0, 3.0], "mos": [1.5, 2.5, 3.5, 1.0, 2.0, 3.0]}
        metrics = self.metrics(infos, ["up"] * 3 + ["down"] * 3, expected=7)
        assert metrics["val/up/srcc"] == pytest.approx(1.0)
        assert metrics["val/down/srcc"] == pytest.approx(-1.0)
        assert metrics["val/up/rmse_raw"] == pytest.approx(0.5)
        assert metrics["val/failed_responses"] == 1

    def test_several_responses_to_a_video_are_averaged(self):
        infos = {"pred_mos": [1.0, 3.0, 5.0, math.nan, 2.9, 2.9], "mos": [1.0, 1.0, 5.0, 5.0, 3.0, 3.0]}
        metrics = self.metrics(infos, uids=["a", "a", "b", "b", "c", "c"])
        assert metrics["val/demo/srcc"] == pytest.approx(1.0)  # 2.0, 5.0 and 2.9 for 1, 5 and 3
        assert metrics["val/demo/rmse_raw"] == pytest.approx(math.sqrt((1.0 + 0.0 + 0.01) / 3))
        assert metrics["val/demo/scored"] == 3
        assert metrics["val/demo/parse_failure_rate"] == pytest.approx(1 / 6)

    def test_responses_without_a_score_are_counted_not_scored(self):
        infos = {"pred_mos": [1.0, math.nan, 3.0, 2.0], "mos": [1.0, 5.0, 3.0, 2.0]}
        metrics = self.metrics(infos)
        assert metrics["val/demo/srcc"] == pytest.approx(1.0)
        assert metrics["val/demo/parse_failure_rate"] == pytest.approx(0.25)
        assert metrics["val/demo/scored"] == 3

    def test_one_answer_for_every_video_has_no_correlation(self):
        assert math.isnan(self.metrics({"pred_mos": [3.0, 3.0, 3.0], "mos": [1.0, 2.0, 3.0]})["val/demo/srcc"])

    def test_no_answer_at_all_is_counted(self):
        metrics = self.metrics({"pred_mos": [math.nan] * 3, "mos": [1.0, 2.0, 3.0]})
        assert metrics["val/demo/parse_failure_rate"] == 1.0
        assert math.isnan(metrics["val/demo/srcc"])

    def test_another_reward_function_is_named(self):
        with pytest.raises(KeyError, match=r"adapters\.verl"):
            validation_metrics(["demo"], ["a"], {"acc": [1.0]}, 1, RewardConfig())

    def test_the_gap_to_the_perturbed_copies_is_per_video(self):
        def answer(score):
            return f"<think>x</think><answer>{score}</answer>"

        infos = {
            "pred_mos": [4.0, 3.0, 2.0, 3.0, 5.0],
            "mos": [4.0, 4.0, 2.0, 3.0, 5.0],
            "perturbed_response": [answer("3.00"), "no score", answer("2.50"), answer("3.00"), None],
        }
        metrics = self.metrics(infos, uids=["a", "a", "b", "c", "d"])
        # a: 3.5 against 3.0, b: 2.0 against 2.5, c: equal, d: too short to perturb.
        assert metrics["val/demo/temporal_gap"] == pytest.approx(0.0)
        assert metrics["val/demo/temporal_win_rate"] == pytest.approx((1 + 0 + 0.5) / 3)

    def test_without_perturbed_responses_there_is_no_gap(self):
        infos = {"pred_mos": [4.0, 3.0], "mos": [4.0, 4.0], "perturbed_response": [None, None]}
        assert "val/demo/temporal_gap" not in self.metrics(infos)
