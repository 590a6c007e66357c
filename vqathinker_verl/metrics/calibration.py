"""Calibration: a strictly rising map from a model's scores to MOS, which corrects their level and keeps their order.

Two kinds of curve are known: the VQEG logistic of four parameters (`metrics.logistic`), and isotonic regression (R. E.
Barlow et al., Statistical Inference under Order Restrictions, 1972), whose pooled blocks become knots at their mean
score and mean MOS with straight lines between them. Neither rises everywhere: a logistic saturates, and isotonic
regression is flat outside its knots. Equal outputs for different scores would change the SRCC, so a share RISE of the
score itself is mixed in, and the map rises by at least RISE everywhere. It stays in the range of the scores.
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from vqathinker_verl.checks import FloatArray, as_vector
from vqathinker_verl.metrics.correlation import as_pair, rmse_raw, srcc
from vqathinker_verl.metrics.logistic import LogisticFit, fit_logistic
from vqathinker_verl.prompts import SCORE_RANGE

Kind = Literal["logistic", "isotonic"]

RISE = 0.01
MIN_VIDEOS = 10
# Fewer different values than a logistic has parameters, and one more: any curve passes through them.
MIN_DISTINCT = 5
FOLDS = 5


class CalibrationError(ValueError):
    """Scores and MOS that give no calibration; the message says why."""


@dataclass(frozen=True)
class MonotoneMap:
    """A strictly rising map of scores in [1, 5] to [1, 5]; call it with scores (N,), NaN stays NaN.

    g(x) = (1 - RISE) clip(f(x), 1, 5) + RISE x

    Attributes:
        kind: "logistic" or "isotonic".
        parameters: of f: lower, upper, centre and scale of the logistic; or the knots' scores, then their MOS.
    """

    kind: Kind
    parameters: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"kind: expected one of {', '.join(get_args(Kind))}, got {self.kind!r}")
        values = as_vector("parameters", self.parameters)
        if self.kind == "logistic":
            if len(values) != 4 or not values[1] > values[0] or not values[3] > 0:
                raise ValueError(
                    f"parameters: expected lower, upper above it, centre, and scale above 0, got {self.parameters}"
                )
            return
        x, y = self._knots()
        if len(values) % 2 or not len(x) or np.any(np.diff(x) <= 0) or np.any(np.diff(y) < 0):
            raise ValueError(f"parameters: expected rising scores, then as many rising MOS, got {self.parameters}")

    def __call__(self, scores: ArrayLike) -> FloatArray:
        """Return the calibrated scores (N,) of scores (N,)."""
        x = as_vector("scores", scores, nan_allowed=True)
        if self.kind == "logistic":
            known = np.where(np.isnan(x), 0.0, x)
            lower, upper, centre, scale = self.parameters
            curve = LogisticFit(lower, upper, centre, scale, converged=True)(known)
        else:
            curve = np.interp(x, *self._knots())
        mapped = (1 - RISE) * np.clip(curve, *SCORE_RANGE) + RISE * x
        return np.asarray(np.where(np.isnan(x), np.nan, mapped))

    def spread(self, score: float, std: float) -> float:
        """Return the standard deviation of a calibrated score: half the width that score - std to score + std gets."""
        if math.isnan(score) or math.isnan(std):
            return math.nan
        low, high = self([score - std, score + std])
        return float(high - low) / 2

    def _knots(self) -> tuple[FloatArray, FloatArray]:
        half = len(self.parameters) // 2
        return np.array(self.parameters[:half]), np.array(self.parameters[half:])


@dataclass(frozen=True)
class Calibrated:
    """What `calibrate` found.

    Attributes:
        map: the better of the two kinds by cross-validation, fitted to all videos.
        num_videos: how many those are.
        srcc: of the scores, and so of the calibrated scores.
        rmse_before: RMSE of the scores as they are, in MOS units.
        rmse_after: RMSE of the calibrated scores, each video mapped by a fit without its fold.
        rmse_by_kind: that of each kind; NaN where a fold's fit did not converge.
    """

    map: MonotoneMap
    num_videos: int
    srcc: float
    rmse_before: float
    rmse_after: float
    rmse_by_kind: dict[str, float]


def calibrate(scores: ArrayLike, mos: ArrayLike, *, seed: int = 0) -> Calibrated:
    """Fit the map of the kind with the smaller cross-validated RMSE.

    Args:
        scores: (N,) a model's scores in [1, 5].
        mos: (N,) MOS in [1, 5].
        seed: seed of the five folds.

    Raises:
        CalibrationError: fewer than ten videos, fewer than five different scores or MOS, scores that do not rise with
            the MOS, or no kind with a smaller RMSE than the scores have as they are.
        ValueError: for lengths that differ, or a value that is not finite.
    """
    scores, mos = as_pair(scores, mos)
    _check(scores, mos)
    folds = np.random.default_rng(seed).permutation(len(scores)) % FOLDS
    found = {kind: _cross_validated(kind, scores, mos, folds) for kind in get_args(Kind)}
    before = rmse_raw(scores, mos)
    usable = {kind: value for kind, value in found.items() if value < before}
    if not usable:
        tried = ", ".join(f"{kind} {value:.3f}" for kind, value in found.items())
        raise CalibrationError(
            f"no calibration lowers the RMSE of {before:.3f} on videos that it was not fitted to ({tried}); use the "
            "scores as they are, or more labels"
        )
    best = min(usable, key=lambda kind: usable[kind])
    fitted = fit_map(best, scores, mos)
    if fitted is None:
        raise CalibrationError(f"the {best} fit to all {len(scores)} videos did not converge; use more labels")
    return Calibrated(fitted, len(scores), srcc(scores, mos), before, usable[best], found)


def fit_map(kind: Kind, scores: FloatArray, mos: FloatArray) -> MonotoneMap | None:
    """Fit one kind of map from scores (N,) to MOS (N,) by least squares; None if it does not converge."""
    if kind == "logistic":
        fit = fit_logistic(scores, mos)
        return MonotoneMap("logistic", fit.parameters) if fit.converged else None
    from scipy.optimize import isotonic_regression

    x, index, sizes = np.unique(scores, return_inverse=True, return_counts=True)
    means = np.bincount(index, weights=mos) / sizes
    result = isotonic_regression(means, weights=sizes)
    starts = result.blocks[:-1]
    totals = np.add.reduceat(sizes, starts)
    centres = np.add.reduceat(x * sizes, starts) / totals
    return MonotoneMap("isotonic", (*centres.tolist(), *result.x[starts].tolist()))


def _check(scores: FloatArray, mos: FloatArray) -> None:
    lowest, highest = SCORE_RANGE
    outside = scores[(scores < lowest) | (scores > highest)]
    if len(outside):
        raise CalibrationError(f"{len(outside)} scores are outside [{lowest:g}, {highest:g}], first {outside[0]:g}")
    if len(scores) < MIN_VIDEOS:
        raise CalibrationError(f"{len(scores)} videos have a score and a label; expected at least {MIN_VIDEOS}")
    for name, values in (("scores", scores), ("labels", mos)):
        distinct = len(np.unique(values))
        if distinct == 1:
            raise CalibrationError(f"all {len(values)} {name} are {values[0]:g}; a map cannot be fitted to a constant")
        if distinct < MIN_DISTINCT:
            raise CalibrationError(
                f"the {len(values)} {name} have only {distinct} different values; expected at least {MIN_DISTINCT}"
            )
    rank_correlation = srcc(scores, mos)
    if rank_correlation <= 0:
        raise CalibrationError(
            f"the scores do not rise with the labels (SRCC {rank_correlation:.3f}); a rising map cannot mend that. Is "
            "the labels' scale one on which less is better (--lower-is-better)?"
        )


def _cross_validated(kind: Kind, scores: FloatArray, mos: FloatArray, folds: np.ndarray) -> float:
    """The RMSE of videos that were each mapped by a fit to the other folds; NaN where such a fit does not converge."""
    mapped = np.full(len(scores), np.nan)
    for fold in range(FOLDS):
        held_out = folds == fold
        fitted = fit_map(kind, scores[~held_out], mos[~held_out])
        if fitted is None:
            return math.nan
        mapped[held_out] = fitted(scores[held_out])
    return rmse_raw(mapped, mos)
