import math
import time

import numpy as np
import pytest

from vqathinker_verl.metrics import bootstrap, evaluate_predictions, fit_logistic
from vqathinker_verl.metrics.bootstrap import METRICS, percentile_bounds, resample_metrics
from vqathinker_verl.metrics.evaluate import all_metrics
from vqathinker_verl.metrics.logistic import LogisticFit


def data(kind, num_videos, seed=0):
    rng = np.random.default_rng(seed)
    mos = rng.uniform(1, 5, num_videos)
    pred = np.clip(mos + rng.normal(0, 0.5, num_videos), 1, 5)
    if kind == "ties":
        pred, mos = np.round(pred), np.round(mos, 1)
    return (6 - pred if kind == "against" else pred), mos


def plain_metrics(pred, mos, counts, fit, min_gap):
    """The same one resample at a time, each copied and put through the metrics of `metrics`."""
    rows = []
    for row in counts:
        chosen = np.repeat(np.arange(len(pred)), row.astype(int))
        refit = fit_logistic(pred[chosen], mos[chosen])
        rows.append(list(all_metrics(pred[chosen], mos[chosen], refit, min_gap).values()))
    return np.array(rows)


@pytest.mark.parametrize(
    ("kind", "num_videos", "fit_tolerance", "min_gap"),
    [("plain", 300, 1e-4, 0.0), ("plain", 100, 1e-4, 0.5), ("ties", 40, 1e-3, 0.3), ("against", 100, 2e-2, 2.0)],
)
def test_every_metric_is_the_one_of_the_plain_loop(kind, num_videos, fit_tolerance, min_gap):
    pred, mos = data(kind, num_videos)
    fit = fit_logistic(pred, mos)
    counts = bootstrap._draw_counts(num_videos, 60, np.random.default_rng(1))
    expected = plain_metrics(pred, mos, counts, fit, min_gap)
    found = resample_metrics(pred, mos, fit, num_resamples=60, rng=np.random.default_rng(1), min_gap=min_gap)
    for column, name in enumerate(METRICS):
        # Two starts end at slightly different places; where the curve runs against the data it is nearly flat.
        tolerance = fit_tolerance if name in ("plcc", "rmse") else 1e-12
        np.testing.assert_allclose(found[:, column], expected[:, column], rtol=0, atol=tolerance, err_msg=name)


def test_a_curve_that_comes_out_flat_gives_no_noise():
    rng = np.random.default_rng(4)
    pred, mos = np.round(rng.uniform(1, 5, 42), 2), np.round(rng.uniform(1, 5, 42))
    found = resample_metrics(pred, mos, fit_logistic(pred, mos), num_resamples=200, rng=rng)
    assert np.nanmax(np.abs(found[:, 2])) < 0.9  # the rounding of a flat curve correlates by 1 or -1


def test_blocks_change_nothing(monkeypatch):
    pred, mos = data("plain", 50)
    fit = fit_logistic(pred, mos)
    whole = resample_metrics(pred, mos, fit, num_resamples=30, rng=np.random.default_rng(2), min_gap=0.7)
    monkeypatch.setattr(bootstrap, "BLOCK_VALUES", 350)
    monkeypatch.setattr(bootstrap, "SIGN_ROWS", 7)
    np.testing.assert_allclose(
        resample_metrics(pred, mos, fit, num_resamples=30, rng=np.random.default_rng(2), min_gap=0.7),
        whole,
        rtol=0,
        atol=1e-9,
    )


def test_a_resample_of_equal_predictions_has_no_correlation():
    pred, mos = np.array([3.0, 3.0, 3.0, 3.0, 3.0, 4.0]), np.array([1.0, 2.0, 3.0, 4.0, 5.0, 5.0])
    counts = bootstrap._draw_counts(6, 200, np.random.default_rng(0))
    without = counts[:, 5] == 0
    assert without.any()
    found = resample_metrics(pred, mos, fit_logistic(pred, mos), num_resamples=200, rng=np.random.default_rng(0))
    assert np.isnan(found[without, :5]).all()
    assert np.isfinite(found[:, 5]).all()
    assert np.isfinite(found[~without & (counts[:, 5] < 6), 0]).all()


def test_a_refit_that_does_not_converge_leaves_only_its_figures_out(monkeypatch):
    pred, mos = data("plain", 60)
    monkeypatch.setattr(bootstrap, "fit_standardised", lambda x, y, weights, start: (start, False))
    fit = LogisticFit(1.0, 5.0, 3.0, 1.0, True)
    found = resample_metrics(pred, mos, fit, num_resamples=10, rng=np.random.default_rng(0))
    assert np.isnan(found[:, 2:4]).all()
    assert np.isfinite(found[:, [0, 1, 4, 5]]).all()


def test_without_a_fit_its_figures_are_nan_and_the_others_are_there():
    pred, mos = data("plain", 4)
    found = resample_metrics(pred, mos, fit_logistic(pred, mos), num_resamples=20, rng=np.random.default_rng(0))
    assert np.isnan(found[:, 2:4]).all()
    assert np.isfinite(found[:, 5]).all()


def test_a_resample_without_a_pair_has_no_accuracy_of_pairs():
    pred, mos = np.array([1.0, 2.0, 3.0, 4.0, 5.0]), np.array([3.0, 3.1, 3.2, 3.3, 5.0])
    found = resample_metrics(
        pred, mos, fit_logistic(pred, mos), num_resamples=200, rng=np.random.default_rng(0), min_gap=1.0
    )
    counts = bootstrap._draw_counts(5, 200, np.random.default_rng(0))
    paired = (counts[:, 4] > 0) & (counts[:, 4] < 5)
    assert 0 < paired.sum() < 200
    assert np.isnan(found[~paired, 6]).all()
    assert (found[paired, 6] == 1).all()


def test_bounds_by_hand():
    draws = np.array([[0.0, math.nan], [1.0, math.nan], [2.0, math.nan], [math.nan, math.nan]])
    low, high = percentile_bounds(draws, 0.5)
    assert (low[0], high[0]) == (0.5, 1.5)
    assert math.isnan(low[1])
    assert math.isnan(high[1])


def test_a_thousand_resamples_of_the_largest_benchmark_take_seconds():
    pred, mos = data("plain", 7182)
    begin = time.process_time()
    result = evaluate_predictions(np.round(pred, 2), mos, num_resamples=1000)
    assert time.process_time() - begin < 15  # 2.5 on a quiet core; one by one it took 86
    assert result["srcc_low"] < result["srcc"] < result["srcc_high"]
