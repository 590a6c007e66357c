"""From scores to metrics with confidence intervals: the one path of the API, the evaluation and model comparison."""

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from vqathinker_verl.checks import FloatArray, as_vector
from vqathinker_verl.metrics.bootstrap import METRICS, percentile_bounds, resample_metrics
from vqathinker_verl.metrics.correlation import krcc, plcc_raw, rmse_raw, srcc
from vqathinker_verl.metrics.logistic import MIN_VIDEOS_TO_FIT, LogisticFit, fit_logistic, metrics_after_fit
from vqathinker_verl.metrics.pairs import count_pairs, pair_accuracy
from vqathinker_verl.parsing import check_choice
from vqathinker_verl.prompts import SCORE_RANGE

Missing = Literal["exclude", "middle"]


@dataclass(frozen=True)
class Estimate:
    """One metric with its interval; NaN where it is undefined."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate_scores` found.

    Attributes:
        metrics: each of METRICS with its interval, by name.
        fit: the logistic from predictions to MOS.
        draws: (num_resamples, 7) the metrics of the bootstrap resamples, columns as METRICS.
        num_pairs: pairs of videos that `pair_accuracy` is about.
    """

    metrics: Mapping[str, Estimate]
    fit: LogisticFit
    draws: FloatArray
    num_pairs: int


def evaluate_predictions(
    pred: ArrayLike,
    mos: ArrayLike,
    *,
    missing: Missing = "exclude",
    score_range: tuple[float, float] = SCORE_RANGE,
    num_resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    min_gap: float = 0.0,
) -> dict[str, float]:
    """Return all metrics of one benchmark, as `vqathinker evaluate` reports them (docs/evaluation.md).

    Args:
        pred: (N,) predicted MOS, NaN for a video without a score.
        mos: (N,) MOS.
        missing: "exclude" leaves videos without a score out of every metric but their own share; "middle" scores
            them as the middle of `score_range` (the released code does, silently).
        score_range: the scale of the scores.
        num_resamples: bootstrap resamples of the videos for the confidence intervals; 0 leaves the bounds NaN.
        confidence: the intervals' confidence.
        seed: seed of the resampling.
        min_gap: smallest difference in MOS of a pair for `pair_accuracy`; 0: all pairs with different MOS.

    Returns:
        Always the same keys: `num_videos`, `num_scored`, `parse_failure_rate` (share without a score), `num_pairs`,
        `srcc`, `krcc`, `plcc` and `rmse` after the logistic fit, `plcc_raw` and `rmse_raw` without it, `pair_accuracy`
        (share of the `num_pairs` pairs of videos in the right order, a tie counting half), each of the seven also with
        `_low` and `_high` (percentile bootstrap, the fit repeated in each resample), and the fit's `fit_lower`,
        `fit_upper`, `fit_centre`, `fit_scale`, `fit_converged` (1 or 0). Undefined metrics are NaN, as are the ones
        after a fit that did not converge, and the intervals of fewer than five videos.

    Raises:
        ValueError: for lengths that differ, an infinite prediction, a MOS that is not finite, or an option out of its
            range.
    """
    check_choice("missing", missing, Missing)
    scores = as_vector("pred", pred, nan_allowed=True)
    target = as_vector("mos", mos, length=len(scores))
    without = np.isnan(scores)
    num_videos, num_scored = len(scores), int(np.sum(~without))
    if missing == "middle":
        scores = np.where(without, sum(score_range) / 2, scores)
    else:
        scores, target = scores[~without], target[~without]
    found = evaluate_scores(
        scores, target, num_resamples=num_resamples, confidence=confidence, seed=seed, min_gap=min_gap
    )
    result: dict[str, float] = {
        "num_videos": num_videos,
        "num_scored": num_scored,
        "parse_failure_rate": 1 - num_scored / num_videos if num_videos else math.nan,
        "num_pairs": found.num_pairs,
    }
    for name, metric in found.metrics.items():
        result |= {name: metric.value, f"{name}_low": metric.low, f"{name}_high": metric.high}
    return result | {
        "fit_lower": found.fit.lower,
        "fit_upper": found.fit.upper,
        "fit_centre": found.fit.centre,
        "fit_scale": found.fit.scale,
        "fit_converged": float(found.fit.converged),
    }


def evaluate_scores(
    pred: FloatArray, mos: FloatArray, *, num_resamples: int, confidence: float, seed: int, min_gap: float = 0.0
) -> Evaluation:
    """Return the metrics of predictions (N,) and MOS (N,), all finite, with intervals and resamples.

    The resamples follow from the seed and the MOS. Two models on the same videos are thus resampled alike, which pairs
    their draws, and different benchmarks independently. From fewer than five videos no interval is made, since it would
    mean nothing.

    Raises:
        ValueError: for lengths that differ, a value that is not finite, or an option out of its range.
    """
    if num_resamples < 0:
        raise ValueError(f"num_resamples: expected at least 0, got {num_resamples}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence: expected a number between 0 and 1, got {confidence}")
    if not (math.isfinite(min_gap) and min_gap >= 0):
        raise ValueError(f"min_gap: expected 0 or more, got {min_gap}")
    fit = fit_logistic(pred, mos)
    values = all_metrics(pred, mos, fit, min_gap)
    if len(pred) < MIN_VIDEOS_TO_FIT:
        draws = np.full((num_resamples, len(METRICS)), math.nan)
    else:
        rng = np.random.default_rng([seed, zlib.crc32(np.ascontiguousarray(mos, dtype="<f8").tobytes())])
        draws = resample_metrics(pred, mos, fit, num_resamples=num_resamples, rng=rng, min_gap=min_gap)
    _, num_pairs = count_pairs(pred, mos, np.zeros(len(pred), dtype=np.int64), min_gap)
    return Evaluation(with_intervals(values, draws, confidence), fit, draws, num_pairs)


def all_metrics(pred: FloatArray, mos: FloatArray, fit: LogisticFit, min_gap: float = 0.0) -> dict[str, float]:
    """Return METRICS of predictions (N,) and MOS (N,), those after the fit as `metrics_after_fit`."""
    plcc, rmse = metrics_after_fit(pred, mos, fit)
    return {
        "srcc": srcc(pred, mos),
        "krcc": krcc(pred, mos),
        "plcc": plcc,
        "rmse": rmse,
        "plcc_raw": plcc_raw(pred, mos),
        "rmse_raw": rmse_raw(pred, mos),
        "pair_accuracy": pair_accuracy(pred, mos, np.zeros(len(pred), dtype=np.int64), min_gap),
    }


def with_intervals(values: Mapping[str, float], draws: FloatArray, confidence: float) -> dict[str, Estimate]:
    """Return values, given in the order of METRICS, with the percentile intervals of their draws (B, 7).

    An undefined value has no interval either, though it may be defined in a resample.
    """
    low, high = percentile_bounds(draws, confidence)
    return {
        name: Estimate(value, *((math.nan, math.nan) if math.isnan(value) else (float(low[k]), float(high[k]))))
        for k, (name, value) in enumerate(values.items())
    }
