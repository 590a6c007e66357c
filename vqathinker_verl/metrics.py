"""How well predicted scores agree with human ones: SRCC, PLCC, KRCC, RMSE, the logistic fit, confidence intervals.

SciPy does the work. Its statistics and its optimiser are imported where they are used, since that takes longer than
everything else in the package together.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from vqathinker_verl.checks import FloatArray, as_vector
from vqathinker_verl.parsing import check_choice
from vqathinker_verl.prompts import SCORE_RANGE

Missing = Literal["exclude", "middle"]

# What is reported of every benchmark, in this order.
FIGURES = ("srcc", "krcc", "plcc", "rmse", "plcc_raw", "rmse_raw")
# Four points always lie on a curve of four parameters.
MIN_VIDEOS_TO_FIT = 5
# A fitted curve that varies less than this share of the MOS is flat: what is left of it is rounding.
FLAT = 1e-6
# Of lower, upper - lower, centre, scale in standard units: far outside of what data show. A rise that is hardly there,
# nearly straight, or a step. Beyond, the parameters are no longer told apart, and the search would never end.
FIT_BOUNDS = (np.array([-20.0, 1e-3, -5.0, 0.02]), np.array([20.0, 40.0, 5.0, 5.0]))


def srcc(pred: ArrayLike, mos: ArrayLike) -> float:
    """Return Spearman's rank-order correlation of predictions (N,) and MOS (N,), in [-1, 1]; ties share a rank.

    Returns:
        The correlation; NaN where it is undefined: fewer than two videos, or all predictions or all MOS equal.

    Raises:
        ValueError: for lengths that differ, or a value that is not finite. Predictions that are missing are a matter
            for the caller, or for `evaluate_predictions`.

    >>> srcc([1.0, 2.0, 4.0], [1.5, 1.7, 1.8])
    1.0
    """
    pred, mos = _pair(pred, mos)
    return _correlation(_ranks(pred), _ranks(mos))


def plcc(pred: ArrayLike, mos: ArrayLike) -> float:
    """Return Pearson's linear correlation of predictions (N,) and MOS (N,), without any fit; else as `srcc`."""
    return _correlation(*_pair(pred, mos))


def krcc(pred: ArrayLike, mos: ArrayLike) -> float:
    """Return Kendall's rank correlation (tau-b, which allows for ties) of predictions and MOS; else as `srcc`."""
    from scipy.stats import kendalltau

    pred, mos = _pair(pred, mos)
    if _is_constant(pred) or _is_constant(mos):
        return math.nan
    return float(kendalltau(pred, mos).statistic)


def rmse(pred: ArrayLike, mos: ArrayLike) -> float:
    """Return the root of the mean squared error, in MOS units; NaN without any video. Raises as `srcc`."""
    pred, mos = _pair(pred, mos)
    return float(np.sqrt(np.mean((pred - mos) ** 2))) if len(pred) else math.nan


@dataclass(frozen=True)
class LogisticFit:
    """The four-parameter logistic that maps predictions to MOS; call it with predictions (N,).

    f(x) = lower + (upper - lower) / (1 + exp(-(x - centre) / scale))

    Attributes:
        lower: value that f approaches for low predictions, in MOS units.
        upper: value that f approaches for high predictions; always above `lower`.
        centre: prediction at which f is half-way.
        scale: width of the rise, above 0, in units of the predictions.
        converged: whether the fit came to an end; without that, its values mean nothing.
    """

    lower: float
    upper: float
    centre: float
    scale: float
    converged: bool

    @property
    def parameters(self) -> tuple[float, float, float, float]:
        """The four parameters, in the order lower, upper, centre, scale."""
        return (self.lower, self.upper, self.centre, self.scale)

    def __call__(self, pred: ArrayLike) -> FloatArray:
        """Return the MOS (N,) that the predictions (N,) are mapped to."""
        from scipy.special import expit

        x = as_vector("pred", pred)
        return np.asarray(self.lower + (self.upper - self.lower) * expit((x - self.centre) / self.scale))


def fit_logistic(pred: ArrayLike, mos: ArrayLike, *, start: LogisticFit | None = None) -> LogisticFit:
    """Fit the VQEG four-parameter logistic from predictions (N,) to MOS (N,) by least squares.

    The curve rises always: predictions that run against the MOS are not turned over by the fit, so that their PLCC
    after the fit stays negative.

    Args:
        pred: predictions.
        mos: MOS.
        start: where to begin, such as the fit of similar data; None begins from the data's spread.

    Returns:
        The fit. With fewer than five videos, or with all predictions or all MOS equal, there is nothing to fit: its
        parameters are NaN and `converged` is False.

    Raises:
        ValueError: as `srcc`.
    """
    pred, mos = _pair(pred, mos)
    if len(pred) < MIN_VIDEOS_TO_FIT or _is_constant(pred) or _is_constant(mos):
        return LogisticFit(math.nan, math.nan, math.nan, math.nan, False)
    from scipy.optimize import least_squares
    from scipy.special import expit

    # In standard units the same start and bounds serve every scale.
    x_mean, x_std, y_mean, y_std = pred.mean(), pred.std(), mos.mean(), mos.std()
    x, y = (pred - x_mean) / x_std, (mos - y_mean) / y_std

    def residuals(p: FloatArray) -> FloatArray:
        return np.asarray(p[0] + p[1] * expit((x - p[2]) / p[3]) - y)

    def jacobian(p: FloatArray) -> FloatArray:
        z = (x - p[2]) / p[3]
        rise = expit(z)
        slope = p[1] * rise * (1.0 - rise) / p[3]
        return np.column_stack([np.ones_like(x), rise, -slope, -slope * z])

    low, high = FIT_BOUNDS
    guess = np.array([y.min(), np.ptp(y), 0.0, 1.0])
    if start is not None and start.converged:
        guess = np.array(
            [
                (start.lower - y_mean) / y_std,
                (start.upper - start.lower) / y_std,
                (start.centre - x_mean) / x_std,
                start.scale / x_std,
            ]
        )
    # Steps and gains below a millionth change no digit that is ever printed.
    found = least_squares(
        residuals,
        np.clip(guess, low + 1e-3, high - 1e-3),
        jac=jacobian,
        bounds=(low, high),
        ftol=1e-6,
        xtol=1e-6,
    )
    lower, rise, centre, scale = found.x
    return LogisticFit(
        lower=float(y_mean + y_std * lower),
        upper=float(y_mean + y_std * (lower + rise)),
        centre=float(x_mean + x_std * centre),
        scale=float(x_std * scale),
        converged=bool(found.success),
    )


def evaluate_predictions(
    pred: ArrayLike,
    mos: ArrayLike,
    *,
    missing: Missing = "exclude",
    score_range: tuple[float, float] = SCORE_RANGE,
    num_resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> dict[str, float]:
    """Return all figures of one benchmark (docs/evaluation.md).

    Args:
        pred: (N,) predicted MOS, NaN for a video without a score.
        mos: (N,) MOS.
        missing: "exclude" leaves videos without a score out of every figure but their own share; "middle" scores
            them as the middle of `score_range` (the released code does, silently).
        score_range: the scale of the scores.
        num_resamples: bootstrap resamples of the videos for the confidence intervals; 0 leaves the bounds NaN.
        confidence: the intervals' confidence.
        seed: seed of the resampling.

    Returns:
        Always the same keys: `num_videos`, `num_scored`, `parse_failure_rate` (share without a score), `srcc`, `krcc`,
        `plcc` and `rmse` after the logistic fit, `plcc_raw` and `rmse_raw` without it, each of the six also with
        `_low` and `_high` (percentile bootstrap, the fit repeated in each resample), and the fit's `fit_lower`,
        `fit_upper`, `fit_centre`, `fit_scale`, `fit_converged` (1 or 0). Figures that are undefined are NaN, as are
        the ones after a fit that did not converge.

    Raises:
        ValueError: for lengths that differ, an infinite prediction, a MOS that is not finite, or an option out of its
            range.
    """
    check_choice("missing", missing, Missing)
    if num_resamples < 0:
        raise ValueError(f"num_resamples: expected at least 0, got {num_resamples}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence: expected a number between 0 and 1, got {confidence}")
    scores = as_vector("pred", pred, nan_allowed=True)
    target = as_vector("mos", mos, length=len(scores))
    without = np.isnan(scores)
    num_videos, num_scored = len(scores), int(np.sum(~without))
    if missing == "middle":
        scores = np.where(without, sum(score_range) / 2, scores)
    else:
        scores, target = scores[~without], target[~without]

    from vqathinker_verl.resampling import percentile_bounds, resample_figures

    fit = fit_logistic(scores, target)
    figures = all_figures(scores, target, fit)
    rng = np.random.default_rng(seed)
    draws = resample_figures(scores, target, fit, num_resamples=num_resamples, rng=rng)
    low, high = percentile_bounds(draws, confidence)
    result: dict[str, float] = {
        "num_videos": num_videos,
        "num_scored": num_scored,
        "parse_failure_rate": 1 - num_scored / num_videos if num_videos else math.nan,
    }
    for position, (name, value) in enumerate(figures.items()):
        result |= {name: value, f"{name}_low": float(low[position]), f"{name}_high": float(high[position])}
    result |= {
        "fit_lower": fit.lower,
        "fit_upper": fit.upper,
        "fit_centre": fit.centre,
        "fit_scale": fit.scale,
        "fit_converged": float(fit.converged),
    }
    return result


def all_figures(pred: ArrayLike, mos: ArrayLike, fit: LogisticFit) -> dict[str, float]:
    """Return FIGURES of predictions (N,) and MOS (N,).

    Those after a fit that did not converge are NaN, and so is the PLCC after one that came out flat.
    """
    fitted = fit(pred) if fit.converged else None
    rises = fitted is not None and np.std(fitted) > FLAT * np.std(np.asarray(mos, dtype=np.float64))
    return {
        "srcc": srcc(pred, mos),
        "krcc": krcc(pred, mos),
        "plcc": plcc(fitted, mos) if rises and fitted is not None else math.nan,
        "rmse": rmse(fitted, mos) if fitted is not None else math.nan,
        "plcc_raw": plcc(pred, mos),
        "rmse_raw": rmse(pred, mos),
    }


def _pair(pred: ArrayLike, mos: ArrayLike) -> tuple[FloatArray, FloatArray]:
    scores = as_vector("pred", pred)
    return scores, as_vector("mos", mos, length=len(scores))


def _ranks(values: FloatArray) -> FloatArray:
    """Return ranks from 1; equal values share the mean of theirs.

    As scipy.stats.rankdata, whose package takes seconds to import; the trainer logs SRCC at every step, and no more.
    """
    _, index, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: FloatArray = (np.cumsum(counts) - (counts - 1) / 2)[index]
    return ranks


def _is_constant(values: FloatArray) -> bool:
    return len(values) < 2 or bool(np.all(values == values[0]))


def _correlation(x: FloatArray, y: FloatArray) -> float:
    """Return Pearson's correlation; NaN where a side is constant."""
    if _is_constant(x) or _is_constant(y):
        return math.nan
    x, y = x - x.mean(), y - y.mean()
    # Scaled first, so that neither squares nor their sum can vanish or overflow.
    x, y = x / np.abs(x).max(), y / np.abs(y).max()
    return float(np.clip(x @ y / math.sqrt((x @ x) * (y @ y)), -1.0, 1.0))
