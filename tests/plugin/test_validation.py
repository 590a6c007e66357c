import math

import pytest

from vqathinker_verl.plugin.validation import validation_metrics
from vqathinker_verl.rewards.config import RewardConfig


def metrics_of(infos, sources=None, uids=None, expected=None):
    count = len(infos["mos"])
    sources = sources or ["demo"] * count
    uids = uids or [str(number) for number in range(count)]
    return validation_metrics(sources, uids, infos, expected or count, RewardConfig())


def test_correlations_per_data_source():
    infos = {"pred_mos": [1.0, 2.0, 3.0, 5.0, 4.0, 3.0], "mos": [1.5, 2.5, 3.5, 1.0, 2.0, 3.0]}
    metrics = metrics_of(infos, ["up"] * 3 + ["down"] * 3, expected=7)
    assert metrics["val/up/srcc"] == pytest.approx(1.0)
    assert metrics["val/down/srcc"] == pytest.approx(-1.0)
    assert metrics["val/up/rmse_raw"] == pytest.approx(0.5)
    assert metrics["val/failed_responses"] == 1


def test_several_responses_to_a_video_are_averaged():
    infos = {"pred_mos": [1.0, 3.0, 5.0, math.nan, 2.9, 2.9], "mos": [1.0, 1.0, 5.0, 5.0, 3.0, 3.0]}
    metrics = metrics_of(infos, uids=["a", "a", "b", "b", "c", "c"])
    assert metrics["val/demo/srcc"] == pytest.approx(1.0)  # 2.0, 5.0 and 2.9 for 1, 5 and 3
    assert metrics["val/demo/rmse_raw"] == pytest.approx(math.sqrt((1.0 + 0.0 + 0.01) / 3))
    assert metrics["val/demo/scored"] == 3
    assert metrics["val/demo/parse_failure_rate"] == pytest.approx(1 / 6)


def test_responses_without_a_score_are_counted_not_scored():
    infos = {"pred_mos": [1.0, math.nan, 3.0, 2.0], "mos": [1.0, 5.0, 3.0, 2.0]}
    metrics = metrics_of(infos)
    assert metrics["val/demo/srcc"] == pytest.approx(1.0)
    assert metrics["val/demo/parse_failure_rate"] == pytest.approx(0.25)
    assert metrics["val/demo/scored"] == 3


def test_one_answer_for_every_video_has_no_correlation():
    assert math.isnan(metrics_of({"pred_mos": [3.0, 3.0, 3.0], "mos": [1.0, 2.0, 3.0]})["val/demo/srcc"])


def test_no_answer_at_all_is_counted():
    metrics = metrics_of({"pred_mos": [math.nan] * 3, "mos": [1.0, 2.0, 3.0]})
    assert metrics["val/demo/parse_failure_rate"] == 1.0
    assert math.isnan(metrics["val/demo/srcc"])


def test_the_gap_to_the_perturbed_copies_is_per_video():
    def answer(score):
        return f"<think>x</think><answer>{score}</answer>"

    infos = {
        "pred_mos": [4.0, 3.0, 2.0, 3.0, 5.0],
        "mos": [4.0, 4.0, 2.0, 3.0, 5.0],
        "perturbed_response": [answer("3.00"), "no score", answer("2.50"), answer("3.00"), None],
    }
    metrics = metrics_of(infos, uids=["a", "a", "b", "c", "d"])
    # a: 3.5 against 3.0, b: 2.0 against 2.5, c: equal, d: too short to perturb.
    assert metrics["val/demo/temporal_gap"] == pytest.approx(0.0)
    assert metrics["val/demo/temporal_win_rate"] == pytest.approx((1 + 0 + 0.5) / 3)


def test_without_perturbed_responses_there_is_no_gap():
    infos = {"pred_mos": [4.0, 3.0], "mos": [4.0, 4.0], "perturbed_response": [None, None]}
    assert "val/demo/temporal_gap" not in metrics_of(infos)
