import json
import math

import numpy as np
import pytest
import scipy.stats
from helpers.data import data_file
from hypothesis import assume, given
from hypothesis import strategies as st

from vqathinker_verl import evaluate_predictions, fit_logistic, krcc, plcc, plcc_raw, rmse, rmse_raw, srcc

NAN = math.nan
# Coarse values, so that ties occur.
PAIRS = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), min_size=2, max_size=20)


@pytest.mark.parametrize(
    ("pred", "mos", "expected"),
    [
        # d = (0, 1, -1, 0): 1 - 6 * 2 / (4 * 15) = 0.8
        ([1, 3, 2, 4], [10, 20, 30, 40], 0.8),
        ([1, 2, 3], [1, 8, 27], 1.0),
        ([3, 2, 1], [1, 8, 27], -1.0),
        # Ranks 1.5, 1.5, 3 against 1, 2, 3: covariance 1.5, variances 1.5 and 2.
        ([2, 2, 5], [1, 2, 3], 1.5 / math.sqrt(3)),
    ],
)
def test_srcc_by_hand(pred, mos, expected):
    assert srcc(pred, mos) == pytest.approx(expected, abs=1e-15)


def test_the_others_by_hand():
    # Of 6 pairs 5 in order, 1 not: (5 - 1) / 6.
    assert krcc([1, 3, 2, 4], [10, 20, 30, 40]) == pytest.approx(2 / 3)
    # Deviations (-1, 0, 1) and (-1, -1, 2): 3 / sqrt(2 * 6).
    assert plcc_raw([1, 2, 3], [1, 1, 4]) == pytest.approx(3 / math.sqrt(12))
    assert rmse_raw([1, 2, 3], [1, 4, 1]) == pytest.approx(math.sqrt(8 / 3))


@given(PAIRS)
def test_agreement_with_scipy(pairs):
    pred, mos = map(np.array, zip(*pairs, strict=True))
    assume(np.ptp(pred) > 0 and np.ptp(mos) > 0)
    assert srcc(pred, mos) == pytest.approx(scipy.stats.spearmanr(pred, mos).statistic, abs=1e-12)
    assert plcc_raw(pred, mos) == pytest.approx(scipy.stats.pearsonr(pred, mos).statistic, abs=1e-12)
    assert krcc(pred, mos) == pytest.approx(scipy.stats.kendalltau(pred, mos).statistic, abs=1e-12)


@pytest.mark.parametrize("metric", [srcc, plcc_raw, krcc])
@pytest.mark.parametrize(("pred", "mos"), [([], []), ([1], [2]), ([3, 3, 3], [1, 2, 3]), ([1, 2, 3], [0.1, 0.1, 0.1])])
def test_a_correlation_that_is_undefined_is_nan(metric, pred, mos):
    assert math.isnan(metric(pred, mos))


def test_rmse_of_nothing_and_of_constants():
    assert math.isnan(rmse_raw([], []))
    assert rmse_raw([2, 2], [1, 3]) == 1.0


@pytest.mark.parametrize("metric", [srcc, plcc_raw, krcc])
@given(values=st.lists(st.floats(1, 5), min_size=2, max_size=20, unique=True))
def test_agreement_with_oneself_is_1_exactly_and_with_the_opposite_minus_1(metric, values):
    assert metric(values, values) == pytest.approx(1.0, abs=1e-15)
    assert metric(values, [-value for value in values]) == pytest.approx(-1.0, abs=1e-15)


@pytest.mark.parametrize("metric", [srcc, plcc_raw, krcc, rmse_raw, plcc, rmse, fit_logistic])
@pytest.mark.parametrize(
    ("pred", "mos", "message"),
    [
        ([1, NAN], [1, 2], r"pred\[1\]: expected a finite number, got nan"),
        ([1, 2], [math.inf, 2], r"mos\[0\]: expected a finite number, got inf"),
        ([1, 2], [1, 2, 3], "mos: expected 2 values, one per response, got 3"),
        ([[1, 2]], [1, 2], "pred: expected one dimension"),
    ],
)
def test_faulty_input_is_named(metric, pred, mos, message):
    with pytest.raises(ValueError, match=message):
        metric(pred, mos)


def logistic(x, lower, upper, centre, scale):
    return lower + (upper - lower) / (1 + np.exp(-(x - centre) / scale))


@pytest.mark.parametrize("stretch", [1.0, 1000.0, 1e-3])
def test_the_fit_finds_the_logistic_that_made_the_data(stretch):
    pred = np.linspace(1, 5, 60)
    mos = logistic(pred, 1.2, 4.6, 3.1, 0.4)
    fit = fit_logistic(pred * stretch, mos)
    assert fit.converged
    np.testing.assert_allclose(fit.parameters, (1.2, 4.6, 3.1 * stretch, 0.4 * stretch), rtol=1e-4)
    np.testing.assert_allclose(fit(pred * stretch), mos, atol=1e-5)


def test_the_fit_is_no_worse_than_a_general_optimiser_and_never_worse_than_a_line():
    rng = np.random.default_rng(3)
    pred = rng.uniform(1, 5, 200)
    mos = np.clip(logistic(pred, 1.5, 4.5, 3.0, 0.5) + rng.normal(0, 0.4, 200), 1, 5)
    fit = fit_logistic(pred, mos)
    found, _ = scipy.optimize.curve_fit(logistic, pred, mos, p0=(1.5, 4.5, 3.0, 0.5))
    assert rmse_raw(fit(pred), mos) <= rmse_raw(logistic(pred, *found), mos) + 1e-6
    assert rmse_raw(fit(pred), mos) <= rmse_raw(np.polyval(np.polyfit(pred, mos, 1), pred), mos)
    assert plcc_raw(fit(pred), mos) > plcc_raw(pred, mos)


def test_predictions_against_the_mos_are_not_turned_over():
    rng = np.random.default_rng(0)
    mos = rng.uniform(1, 5, 100)
    pred = 6 - mos + rng.normal(0, 0.2, 100)
    fit = fit_logistic(pred, mos)
    assert fit.upper > fit.lower
    assert fit.scale > 0
    assert plcc_raw(fit(pred), mos) < -0.5


@pytest.mark.parametrize(("pred", "mos"), [([1, 2, 3], [1, 2, 3]), ([2] * 5, [1, 2, 3, 4, 5]), ([1, 2, 3, 4], [3] * 4)])
def test_nothing_to_fit(pred, mos):
    fit = fit_logistic(pred, mos)
    assert not fit.converged
    assert all(math.isnan(value) for value in fit.parameters)
    assert math.isnan(plcc(pred, mos))
    assert math.isnan(rmse(pred, mos))


def test_evaluation_by_its_parts():
    rng = np.random.default_rng(1)
    mos = rng.uniform(1, 5, 80)
    pred = np.clip(mos + rng.normal(0, 0.5, 80), 1, 5)
    result = evaluate_predictions(pred, mos, num_resamples=60)
    fit = fit_logistic(pred, mos)
    assert result["srcc"] == srcc(pred, mos)
    assert result["krcc"] == krcc(pred, mos)
    assert result["plcc_raw"] == plcc_raw(pred, mos)
    assert result["rmse_raw"] == rmse_raw(pred, mos)
    assert result["plcc"] == plcc(pred, mos) == plcc_raw(fit(pred), mos)
    assert result["rmse"] == rmse(pred, mos) == rmse_raw(fit(pred), mos)
    assert result["fit_converged"] == 1.0
    assert (result["num_videos"], result["num_scored"], result["parse_failure_rate"]) == (80, 80, 0.0)
    for name in ("srcc", "krcc", "plcc", "rmse", "plcc_raw", "rmse_raw"):
        assert result[f"{name}_low"] < result[name] < result[f"{name}_high"]
    assert result == evaluate_predictions(pred, mos, num_resamples=60)
    assert result["srcc_low"] != evaluate_predictions(pred, mos, num_resamples=60, seed=1)["srcc_low"]


def test_the_intervals_are_those_of_scipys_bootstrap():
    rng = np.random.default_rng(2)
    mos = rng.normal(size=60)
    pred = 0.6 * mos + 0.8 * rng.normal(size=60)
    result = evaluate_predictions(pred, mos, num_resamples=120, confidence=0.8)
    for name, metric in (("plcc_raw", plcc_raw), ("srcc", srcc)):
        reference = scipy.stats.bootstrap(
            (pred, mos),
            metric,
            paired=True,
            vectorized=False,
            n_resamples=500,
            confidence_level=0.8,
            method="percentile",
            rng=np.random.default_rng(3),
        ).confidence_interval
        # The bounds, 0.2 apart, are themselves known to about 0.013 from so many resamples.
        assert result[f"{name}_low"] == pytest.approx(reference.low, abs=0.045)
        assert result[f"{name}_high"] == pytest.approx(reference.high, abs=0.045)


def test_missing_scores_are_left_out_and_reported():
    mos = [1.0, 2.0, 3.0, 4.0, 5.0, 2.5]
    result = evaluate_predictions([1.1, NAN, 2.9, 4.2, 4.8, 2.4], mos, num_resamples=0)
    assert result["num_videos"] == 6
    assert result["num_scored"] == 5
    assert result["parse_failure_rate"] == pytest.approx(1 / 6)
    assert result["srcc"] == 1.0
    assert math.isnan(result["srcc_low"])


def test_missing_scores_as_the_middle_when_asked():
    mos = [1.0, 2.0, 3.5, 4.0, 5.0]
    pred = [1.0, NAN, 3.5, 4.0, 5.0]
    result = evaluate_predictions(pred, mos, missing="middle", num_resamples=0)
    assert result["rmse_raw"] == pytest.approx(math.sqrt(1 / 5))  # 3.00 for 2.00
    assert result["num_scored"] == 4
    other = evaluate_predictions(pred, mos, missing="middle", score_range=(0.0, 10.0), num_resamples=0)
    assert other["rmse_raw"] == pytest.approx(math.sqrt(9 / 5))  # 5.00 for 2.00


def test_fewer_than_five_videos_have_no_fit_and_no_interval():
    result = evaluate_predictions([1.0, 2.0, 2.5, 4.0, NAN], [1.0, 2.0, 3.0, 4.0, 5.0], num_resamples=20)
    assert result["srcc"] == 1.0
    assert result["rmse_raw"] == 0.25
    assert math.isnan(result["plcc"])
    assert math.isnan(result["rmse"])
    assert all(
        math.isnan(result[f"{name}_{end}"]) for name in ("srcc", "plcc_raw", "rmse_raw") for end in ("low", "high")
    )


@pytest.mark.parametrize("pred", [[], [NAN, NAN], [3.0, 3.0], [1.0, 2.0]])
def test_keys_are_constant_and_nothing_is_invented(pred):
    full = evaluate_predictions([1, 2, 3, 4, 5], [1, 3, 2, 4, 5], num_resamples=5)
    result = evaluate_predictions(pred, [1.0, 2.0][: len(pred)], num_resamples=5)
    assert list(result) == list(full)
    assert math.isnan(result["plcc"])
    assert result["fit_converged"] == 0.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"missing": "random"}, "missing: expected one of 'exclude', 'middle'"),
        ({"num_resamples": -1}, "num_resamples: expected at least 0"),
        ({"confidence": 95}, "confidence: expected a number between 0 and 1, got 95"),
    ],
)
def test_unknown_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        evaluate_predictions([1, 2], [1, 2], **options)


def test_on_the_labels_of_a_benchmark():
    annotations = json.loads(data_file("labels/LIVE-VQC_total_ds_score.json").read_text())["annotations"]
    mos = np.array([float(entry["score"]) for entry in annotations])
    assert len(mos) == 585
    rng = np.random.default_rng(0)
    pred = 1 + 4 / (1 + np.exp(-(mos - mos.mean()) / mos.std())) + rng.normal(0, 0.3, len(mos))
    result = evaluate_predictions(pred, mos, num_resamples=20)
    assert result["fit_converged"] == 1.0
    assert 0.9 < result["srcc"] < 1
    assert result["rmse"] < mos.std()
    assert result["srcc_high"] - result["srcc_low"] < 0.1
