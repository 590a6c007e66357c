import math

import numpy as np
import pytest
import scipy.stats
from helpers.evaluation_files import benchmark, noisy, predictions

from vqathinker_verl.evaluation.records import Prediction
from vqathinker_verl.evaluation.results import Settings, evaluate_benchmark, evaluate_model, mean_over
from vqathinker_verl.metrics import LogisticFit, evaluate, evaluate_predictions

NAN = math.nan
QUICK = Settings(num_resamples=50)


def evaluated(mos, scores, settings=QUICK, name="made"):
    return evaluate_benchmark(benchmark(mos, name), predictions(scores, name), settings)


def test_figures_are_those_of_the_public_function_and_of_scipy():
    mos, pred = noisy(80)
    result = evaluated(mos, pred)
    expected = evaluate_predictions(pred, mos, num_resamples=50)
    for name, metric in result.metrics.items():
        assert (metric.value, metric.low, metric.high) == tuple(expected[name + end] for end in ("", "_low", "_high"))
        assert metric.low < metric.value < metric.high
    assert abs(result.metrics["srcc"].value - scipy.stats.spearmanr(pred, mos).statistic) < 1e-10
    assert abs(result.metrics["krcc"].value - scipy.stats.kendalltau(pred, mos).statistic) < 1e-10
    assert (result.undefined, result.notes) == ({}, [])


def test_constant_predictions_have_a_reason_and_no_correlation():
    result = evaluated([1.0, 2.0, 3.0, 4.0, 5.0, 2.5], [3.0] * 6)
    for name in ("srcc", "krcc", "plcc", "rmse", "plcc_raw"):
        assert math.isnan(result.metrics[name].value)
        assert math.isnan(result.metrics[name].low)
        assert result.undefined[name] == "all 6 predictions are 3"
    assert result.metrics["rmse_raw"].value > 0


def test_equal_mos_have_a_reason():
    assert evaluated([3.0] * 6, [1, 2, 3, 4, 5, 2]).undefined["srcc"] == "all 6 MOS are 3"


@pytest.mark.parametrize(
    ("scores", "reason"),
    [
        ([NAN, NAN, None, NAN], "no video has a score"),
        ([2.0, NAN, None, NAN], "only one video has a score"),
        ([2.0, 3.0, 3.5, 4.0], "4 videos; a curve of four parameters needs at least 5"),
    ],
)
def test_fewer_than_five_videos(scores, reason):
    result = evaluated([1.0, 2.0, 3.0, 4.0], scores)
    assert math.isnan(result.metrics["plcc"].value)
    assert result.undefined["plcc"] == reason
    assert math.isnan(result.metrics["srcc"].low)
    assert "have a score: no intervals" in result.notes[0]
    if reason.startswith("4"):
        assert result.metrics["srcc"].value == 1.0
        assert result.metrics["plcc_raw"].value > 0.9


def test_a_fit_that_does_not_converge_is_reported_and_the_raw_value_stays(monkeypatch):
    monkeypatch.setattr(evaluate, "fit_logistic", lambda pred, mos: LogisticFit(1.0, 5.0, 3.0, 1.0, False))
    mos, pred = noisy(20)
    result = evaluated(mos, pred)
    assert math.isnan(result.metrics["plcc"].value)
    assert math.isnan(result.metrics["plcc"].high)
    assert "did not converge" in result.undefined["plcc"]
    assert "did not converge" in result.undefined["rmse"]
    assert result.metrics["plcc_raw"].value > 0.8


def test_a_flat_curve_has_no_correlation(monkeypatch):
    # Centred far beyond the predictions: what varies is the last digit.
    monkeypatch.setattr(evaluate, "fit_logistic", lambda pred, mos: LogisticFit(1.0, 5.0, -40.0, 0.5, True))
    mos, pred = noisy(20)
    result = evaluated(mos, pred)
    assert math.isnan(result.metrics["plcc"].value)
    assert "came out flat" in result.undefined["plcc"]
    assert result.metrics["rmse"].value > 0


def test_predictions_against_the_mos_stay_against_it():
    mos, pred = noisy(100, noise=0.2)
    result = evaluated(mos, 6 - pred)
    assert result.metrics["srcc"].value < -0.9
    assert result.metrics["plcc_raw"].value < -0.9
    assert result.metrics["plcc"].value < -0.5
    assert "run against the MOS" in result.notes[0]


def test_ties_are_scipys():
    mos, pred = noisy(60)
    mos, pred = np.round(mos), np.round(pred)
    result = evaluated(mos, pred)
    assert abs(result.metrics["srcc"].value - scipy.stats.spearmanr(pred, mos).statistic) < 1e-10
    assert abs(result.metrics["krcc"].value - scipy.stats.kendalltau(pred, mos).statistic) < 1e-10


def test_answers_without_a_score_are_left_out_and_counted():
    mos = [1.0, 2.0, 3.0, 4.0, 5.0, 2.5, 3.5]
    result = evaluated(mos, [1.1, NAN, 2.9, 4.2, 4.8, 2.4, None])
    assert (result.num_videos, result.num_scored, result.num_unscored, result.num_missing) == (7, 5, 1, 1)
    assert result.unscored_share == pytest.approx(1 / 6)
    assert result.metrics["srcc"].value == 1.0
    assert list(result.used) == [0, 2, 3, 4, 5]


def test_the_releases_way_gives_the_middle_to_answers_but_not_to_videos_without_any():
    mos = [1.0, 2.0, 3.5, 4.0, 5.0, 1.0, 1.0]
    said = predictions([1.0, NAN, 3.5, 4.0, 5.0, None, None])
    said[6] = Prediction("p:6", "made/006.mp4", NAN, error="no frame can be decoded")
    result = evaluate_benchmark(benchmark(mos), said, Settings(unscored=3.0, num_resamples=0))
    assert (result.num_scored, result.num_unscored, result.num_missing, result.num_failed) == (4, 1, 2, 1)
    assert result.metrics["rmse_raw"].value == pytest.approx(math.sqrt(1 / 5))  # 3.00 for 2.00
    assert result.notes == ["1 answers without a score count as 3"]


def test_means_plain_and_weighted():
    (mos_a, pred_a), (mos_b, pred_b) = noisy(20, seed=1), noisy(60, noise=1.5, seed=2)
    a, b = evaluated(mos_a, pred_a, name="a"), evaluated(mos_b, pred_b, name="b")
    plain, weighted = mean_over([a, b], [1, 1], QUICK), mean_over([a, b], [20, 60], QUICK)
    first, second = a.metrics["srcc"].value, b.metrics["srcc"].value
    assert plain.metrics["srcc"].value == pytest.approx((first + second) / 2)
    assert weighted.metrics["srcc"].value == pytest.approx((20 * first + 60 * second) / 80)
    assert plain.metrics["srcc"].low < plain.metrics["srcc"].value < plain.metrics["srcc"].high


def test_a_mean_over_a_metric_that_does_not_exist_does_not_either():
    mos, pred = noisy(10)
    result = evaluate_model(
        "m",
        [benchmark(mos, "good"), benchmark(mos, "flat")],
        {"good": predictions(pred, "good"), "flat": predictions([3.0] * 10, "flat")},
        QUICK,
    )
    assert math.isnan(result.plain.metrics["srcc"].value)
    assert math.isnan(result.plain.metrics["srcc"].low)
    assert result.plain.undefined["srcc"] == "undefined for flat"
    assert result.plain.metrics["rmse_raw"].value > 0
