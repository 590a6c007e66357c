import math

import numpy as np
import pytest
from helpers.evaluation_files import benchmark, noisy, predictions

from vqathinker_verl.evaluation.compare import bootstrap_p_value, compare_models, williams_test
from vqathinker_verl.evaluation.records import EvaluationError
from vqathinker_verl.evaluation.results import Settings, evaluate_model
from vqathinker_verl.metrics import fit_logistic, plcc_raw, srcc
from vqathinker_verl.metrics.bootstrap import resample_metrics

SETTINGS = Settings(num_resamples=100)


def model(name, mos, scores, benchmark_name="made"):
    labels = benchmark(mos, benchmark_name)
    return evaluate_model(name, [labels], {benchmark_name: predictions(scores, benchmark_name)}, SETTINGS)


def test_a_better_model_is_found_better_by_both_tests():
    mos, good = noisy(200, noise=0.4)
    worse = np.clip(mos + np.random.default_rng(5).normal(0, 1.5, 200), 1, 5)
    found = compare_models(model("good", mos, good), model("worse", mos, worse), SETTINGS)
    (one,) = found.benchmarks
    difference = one.differences["srcc"]
    assert difference.metric.value == pytest.approx(srcc(good, mos) - srcc(worse, mos))
    assert difference.metric.low > 0.05
    assert difference.p_value == pytest.approx(2 / 101)  # the least that 100 resamples can say
    assert one.williams_p < 1e-6
    assert one.differences["rmse"].metric.value < 0
    assert found.mean["srcc"].metric.value == pytest.approx(difference.metric.value)


def test_a_model_does_not_differ_from_itself_nor_from_the_same_order():
    mos, pred = noisy(50)
    for other in (pred, pred / 2 + 1):
        (one,) = compare_models(model("a", mos, pred), model("b", mos, other), SETTINGS).benchmarks
        assert one.differences["srcc"].metric.value == 0
        assert one.differences["srcc"].p_value == 1
        assert (one.williams_t, one.williams_p) == (0, 1)


def test_only_videos_that_both_scored_are_compared():
    mos, pred = noisy(30)
    first, second = list(pred), list(pred + np.linspace(0, 0.5, 30))
    first[0], second[1], second[2] = math.nan, None, math.nan
    (one,) = compare_models(model("a", mos, first), model("b", mos, second), SETTINGS).benchmarks
    assert (one.num_videos, one.num_left_out) == (27, 3)
    assert one.differences["plcc_raw"].metric.value == pytest.approx(
        plcc_raw(pred[3:], mos[3:]) - plcc_raw((pred + np.linspace(0, 0.5, 30))[3:], mos[3:])
    )


def test_the_intervals_belong_to_the_draws_of_the_single_models():
    mos, pred = noisy(60)
    first, second = model("a", mos, pred), model("b", mos, pred / 2 + mos / 2)
    (one,) = compare_models(first, second, SETTINGS).benchmarks
    draws = first.benchmarks[0].draws[:, 0] - second.benchmarks[0].draws[:, 0]
    found = one.differences["srcc"].metric
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(draws, [0.025, 0.975])))


def test_fewer_than_five_common_videos_have_no_interval_and_no_p_value():
    mos, pred = noisy(10)
    second = [None] * 6 + list(pred[6:] + 0.1)
    (one,) = compare_models(model("a", mos, pred), model("b", mos, second), SETTINGS).benchmarks
    assert one.num_videos == 4
    assert one.differences["srcc"].metric.value == 0
    assert math.isnan(one.differences["srcc"].metric.low)
    assert math.isnan(one.differences["srcc"].p_value)
    assert math.isnan(one.differences["plcc"].metric.value)


def test_nothing_to_compare_is_nan():
    mos, pred = noisy(10)
    (one,) = compare_models(model("a", mos, pred), model("b", mos, [3.0] * 10), SETTINGS).benchmarks
    assert math.isnan(one.differences["srcc"].metric.value)
    assert math.isnan(one.differences["srcc"].p_value)
    assert math.isnan(one.williams_p)
    with pytest.raises(EvaluationError, match="same benchmarks"):
        compare_models(model("a", mos, pred), model("b", mos, pred, "other"), SETTINGS)


def test_williams_by_a_published_example_and_by_its_limits():
    # r.test(103, .4, .5, .1) of the R package psych: t = -0.89, p < 0.37.
    t, p = williams_test(0.4, 0.5, 0.1, 103)
    assert t == pytest.approx(-0.89, abs=0.005)
    assert p == pytest.approx(0.37, abs=0.005)
    assert williams_test(0.5, 0.4, 0.1, 103) == (-t, p)
    assert math.isnan(williams_test(0.5, 0.4, 0.1, 3)[1])
    assert math.isnan(williams_test(math.nan, 0.4, 0.1, 30)[1])
    # Models that agree more with each other leave less to chance.
    assert williams_test(0.5, 0.4, 0.9, 103)[1] < p


def test_under_no_difference_both_tests_rarely_find_one():
    """Two equally noisy models: p below 0.05 for about one of twenty sets of videos, 5 of 100, at most 10 by chance."""
    rng = np.random.default_rng(0)
    no_fit = fit_logistic([], [])
    found = {"bootstrap": 0, "williams": 0}
    for seed in range(100):
        mos, shared, *noise = rng.normal(size=(4, 40))
        preds = [mos + shared + own for own in noise]
        draws = [
            resample_metrics(pred, mos, no_fit, num_resamples=200, rng=np.random.default_rng(seed)) for pred in preds
        ]
        found["bootstrap"] += bootstrap_p_value(draws[0][:, 0] - draws[1][:, 0]) < 0.05
        found["williams"] += williams_test(srcc(preds[0], mos), srcc(preds[1], mos), srcc(*preds), 40)[1] < 0.05
    assert 1 <= found["bootstrap"] <= 10
    assert 1 <= found["williams"] <= 10


def test_the_bootstraps_p_value_by_hand():
    assert bootstrap_p_value(np.array([-1.0, 1.0, 2.0, 3.0])) == pytest.approx(2 * 2 / 5)
    assert bootstrap_p_value(np.array([0.0, 0.0])) == 1.0
    assert math.isnan(bootstrap_p_value(np.array([math.nan])))
