"""Parity with the released code, and each difference of the default mode from it (reasons in docs/rewards.md)."""

import json

import numpy as np
import pytest
from helpers.data import data_file

from vqathinker_verl import RewardConfig, score_batch

RELEASE, DEFAULT = RewardConfig.release(), RewardConfig()


def answer(number):
    return f"<think>x</think><answer>{number}</answer>"


def test_the_reference_values_of_the_release():
    cases = json.loads(data_file("golden/rewards_reference.json").read_text())["cases"]
    assert len(cases) == 25
    for case in cases:
        groups = np.repeat(np.arange(case["num_videos"]), case["group_size"])
        batch = score_batch(case["completions"], np.array(case["mos"])[groups], groups, config=RELEASE)
        for name in ("regression", "ranking", "format"):
            np.testing.assert_allclose(getattr(batch, name), case[name], rtol=0, atol=1e-6, err_msg=name)


def test_range_check():
    responses, mos, groups = [answer("85.00"), answer("2.00")], [4.25, 2.0], ["a", "b"]
    assert score_batch(responses, mos, groups, config=RELEASE).pred_mos.tolist() == [85.0, 2.0]
    assert score_batch(responses, mos, groups, config=DEFAULT).metrics()["parse_failure_rate"] == 0.5


def test_no_fallback_to_the_text():
    response = "I would give 2.00, no, 4.00 of 5"
    assert score_batch([response], [4.0], ["a"], config=RELEASE).pred_mos.tolist() == [2.0]
    assert np.isnan(score_batch([response], [4.0], ["a"], config=DEFAULT).pred_mos).all()


@pytest.mark.parametrize(("number", "released"), [("3.50", 0.8), ("3.00", 0.8), ("3.25", 1.0), ("3.5", 0.8)])
def test_decimals_as_written(number, released):
    written = 0.8 if number == "3.5" else 1.0
    mos = [float(number)]
    assert score_batch([answer(number)], mos, ["a"], config=RELEASE).regression.tolist() == [released]
    assert score_batch([answer(number)], mos, ["a"], config=DEFAULT).regression.tolist() == [written]


def test_of_the_401_legal_scores_the_release_penalises_41():
    numbers = [f"{hundredths / 100:.2f}" for hundredths in range(100, 501)]
    mos = [float(number) for number in numbers]
    responses = [answer(number) for number in numbers]
    assert np.sum(score_batch(responses, mos, numbers, config=RELEASE).regression < 1) == 41
    assert np.all(score_batch(responses, mos, numbers, config=DEFAULT).regression == 1)


def test_temporal_means_per_video():
    # Video a does better on the original, b on the perturbed frames, a by more than b loses.
    arguments = {
        "responses": [answer("4.00"), answer("2.10")],
        "mos": [4.0, 2.0],
        "group_ids": ["a", "b"],
        "perturbed_responses": [answer("3.00"), answer("2.00")],
        "perturbed_group_ids": ["a", "b"],
    }
    released = score_batch(**arguments, config=RELEASE)
    default = score_batch(**arguments, config=DEFAULT)
    # Rankings are all right, on both sides: 0.3 each. Regression: a earns for itself, b only by the batch's mean.
    np.testing.assert_allclose(default.temporal, [0.6, 0.3])
    assert default.regression[1] > 0.9
    np.testing.assert_allclose(released.regression, [0.8, 0.8 * default.regression[1]])
    lower_bar = {"regression_threshold": 0.7}
    released = score_batch(**arguments, config=RewardConfig(temporal_scope="batch", **lower_bar))
    default = score_batch(**arguments, config=RewardConfig(**lower_bar))
    np.testing.assert_allclose(released.temporal, [0.6, 0.6])
    np.testing.assert_allclose(default.temporal, [0.6, 0.3])


def test_perturbed_responses_meet_the_other_videos_as_they_are():
    # The originals are in the wrong order. Perturbed, a gets 2.80: below b's original, above b's perturbed score.
    arguments = {
        "responses": [answer("2.50"), answer("3.00")],
        "mos": [4.0, 2.0],
        "group_ids": ["a", "b"],
        "perturbed_responses": [answer("2.80"), answer("2.00")],
        "perturbed_group_ids": ["a", "b"],
    }
    ranking, _ = score_batch(**arguments, config=DEFAULT).comparisons
    assert ranking.won.tolist() == [True, False]  # for a wrong on both sides, a draw; for b right when perturbed
    ranking, _ = score_batch(**arguments, config=RewardConfig(perturbed_ranked_against="perturbed")).comparisons
    assert ranking.won.tolist() == [False, False]


def test_only_videos_of_one_dataset_are_compared():
    arguments = ([answer("4.00"), answer("2.00")], [4.0, 2.0], ["a", "b"])
    sources = ["LSVQ", "KoNViD-1k"]
    assert score_batch(*arguments, data_sources=sources, config=RELEASE).ranking.tolist() == pytest.approx(
        [1.001] * 2, abs=1e-5
    )
    assert score_batch(*arguments, data_sources=sources, config=DEFAULT).ranking.tolist() == [0.0, 0.0]
