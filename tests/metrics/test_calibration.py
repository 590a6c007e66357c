"""Calibration: on labels that it was not fitted to the RMSE falls, and the order of the scores never changes."""

import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from vqathinker_verl.metrics import rmse_raw, srcc
from vqathinker_verl.metrics.calibration import RISE, CalibrationError, MonotoneMap, calibrate, fit_map


def compressed(num_videos, seed=0, noise=0.15):
    """MOS over the whole scale, and scores that use a narrow part of it, above the MOS: as models often do."""
    rng = np.random.default_rng(seed)
    mos = rng.uniform(1.2, 4.8, num_videos)
    scores = 3 + 0.4 * np.tanh(0.9 * (mos - 3)) + rng.normal(0, noise / 4, num_videos)
    return np.round(scores, 2), mos


@pytest.mark.parametrize("seed", range(5))
def test_on_held_out_labels_the_rmse_falls_and_the_srcc_stays(seed):
    scores, mos = compressed(250, seed)
    found = calibrate(scores[:50], mos[:50])
    held_out, labels = scores[50:], mos[50:]
    mapped = found.map(held_out)
    assert rmse_raw(mapped, labels) < 0.6 * rmse_raw(held_out, labels)
    assert abs(srcc(mapped, labels) - srcc(held_out, labels)) <= 1e-12
    assert abs(spearmanr(mapped, labels).statistic - spearmanr(held_out, labels).statistic) <= 1e-12
    assert found.rmse_after < found.rmse_before
    assert found.rmse_after == min(found.rmse_by_kind.values())
    assert (found.num_videos, found.srcc) == (50, srcc(scores[:50], mos[:50]))


@pytest.mark.parametrize("kind", ["logistic", "isotonic"])
def test_each_kind_rises_strictly_and_stays_in_range_even_where_its_curve_is_flat(kind):
    # A step: the logistic saturates on both sides, and isotonic regression pools each side.
    scores = np.linspace(1, 5, 40)
    mos = np.where(scores < 3, 1.5, 4.5) + 0.01 * np.sin(40 * scores)
    fitted = fit_map(kind, scores, mos)
    grid = np.linspace(1, 5, 4001)
    mapped = fitted(grid)
    assert np.all(np.diff(mapped) >= 0.99 * RISE * np.diff(grid))
    assert mapped.min() >= 1
    assert mapped.max() <= 5
    assert abs(fitted([1.5])[0] - 1.5) < 0.1
    assert abs(fitted([4.5])[0] - 4.5) < 0.1


def test_isotonic_knots_by_hand():
    # MOS 2 and 1 are out of order: pooled to 1.5 at the mean score 1.5, as are the two videos with the score 4.
    fitted = fit_map("isotonic", np.array([1.0, 2.0, 3.0, 4.0, 4.0]), np.array([2.0, 1.0, 3.0, 4.0, 5.0]))
    assert fitted.parameters == pytest.approx((1.5, 3.0, 4.0, 1.5, 3.0, 4.5))
    # Between the knots a line, outside the nearest knot, each with a share of the score itself.
    assert fitted([2.25, 1.0, 5.0]) == pytest.approx([0.99 * 2.25 + 0.0225, 0.99 * 1.5 + 0.01, 0.99 * 4.5 + 0.05])


def test_no_score_stays_none_and_a_map_pickles():
    fitted = fit_map("logistic", *compressed(60))
    mapped = fitted([3.0, math.nan])
    assert math.isfinite(mapped[0])
    assert math.isnan(mapped[1])
    assert pickle.loads(pickle.dumps(fitted)) == fitted
    assert math.isnan(fitted.spread(math.nan, 0.5))
    assert math.isnan(fitted.spread(3.0, math.nan))
    assert fitted.spread(3.0, 0.1) == pytest.approx((fitted([3.1])[0] - fitted([2.9])[0]) / 2)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(100, 500), st.integers(100, 500)), min_size=10, max_size=60),
    st.sampled_from(["logistic", "isotonic"]),
)
def test_whatever_the_labels_no_two_scores_change_places(pairs, kind):
    scores, mos = (np.array(values) / 100 for values in zip(*pairs, strict=True))
    fitted = fit_map(kind, scores, mos)
    if fitted is None:
        return
    grid = np.arange(100, 501) / 100
    mapped = fitted(grid)
    assert np.all(np.diff(mapped) > 0)
    assert mapped[0] >= 1
    assert mapped[-1] <= 5


def test_the_same_labels_and_seed_give_the_same_map():
    scores, mos = compressed(50)
    assert calibrate(scores, mos) == calibrate(scores, mos)
    assert calibrate(scores, mos, seed=1).map.kind in ("logistic", "isotonic")


RISING = np.linspace(1.5, 4.5, 20)


@pytest.mark.parametrize(
    ("scores", "mos", "reason"),
    [
        (RISING[:9], RISING[:9], "9 videos have a score and a label; expected at least 10"),
        (RISING, np.full(20, 3.0), "all 20 labels are 3; a map cannot be fitted to a constant"),
        (np.full(20, 2.5), RISING, "all 20 scores are 2.5"),
        (RISING, np.round(RISING / 2), "the 20 labels have only 2 different values; expected at least 5"),
        (RISING, RISING[::-1], r"do not rise with the labels \(SRCC -1.000\).*--lower-is-better"),
        (20 * RISING, RISING, r"20 scores are outside \[1, 5\], first 30"),
        (RISING, RISING, "no calibration lowers the RMSE of 0.000"),
    ],
    ids=["few", "constant labels", "constant scores", "two levels", "against", "other scale", "no gain"],
)
def test_what_gives_no_calibration_is_refused_with_the_reason(scores, mos, reason):
    with pytest.raises(CalibrationError, match=reason):
        calibrate(scores, mos)


@pytest.mark.parametrize(
    ("kind", "parameters", "named"),
    [
        ("cubic", (1.0, 2.0), "kind: expected one of logistic, isotonic"),
        ("logistic", (4.0, 1.0, 3.0, 1.0), "upper above it"),
        ("logistic", (1.0, 4.0, 3.0, 0.0), "scale above 0"),
        ("isotonic", (1.0, 1.0, 2.0, 3.0), "rising scores"),
        ("isotonic", (1.0, 2.0, 3.0, 2.0), "as many rising MOS"),
        ("isotonic", (), "rising scores"),
        ("isotonic", (1.0, math.nan), r"parameters\[1\]: expected a finite number"),
    ],
)
def test_a_map_that_would_not_rise_is_refused(kind, parameters, named):
    with pytest.raises(ValueError, match=named):
        MonotoneMap(kind, parameters)
