"""The VQEG logistic from predictions to MOS, and the metrics after it: PLCC and RMSE.

SciPy's optimiser is imported where it is used, since that takes longer than importing everything else in the package.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from vqathinker_verl.checks import FloatArray, as_vector
from vqathinker_verl.metrics.correlation import as_pair, is_constant, plcc_raw, rmse_raw

# Four points always lie on a curve of four parameters.
MIN_VIDEOS_TO_FIT = 5
# A fitted curve that varies less than this share of the MOS is flat: what is left of it is rounding.
FLAT = 1e-6
# Of lower, upper - lower, centre, scale in standard units: far outside of what data show. A rise that is hardly there,
# nearly straight, or a step. Beyond, the data do not determine the parameters, and the search would never end.
FIT_BOUNDS = (np.array([-20.0, 1e-3, -5.0, 0.02]), np.array([20.0, 40.0, 5.0, 5.0]))


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


def plcc(pred: ArrayLike, mos: ArrayLike) -> float:
    """Return Pearson's linear correlation of predictions (N,) and MOS (N,) after the logistic fit.

    Returns:
        The correlation, in [-1, 1]; NaN without a fit (fewer than five videos, all predictions or all MOS equal, no
        convergence) and after a fit that came out flat.

    Raises:
        ValueError: for lengths that differ, or a value that is not finite.
    """
    return metrics_after_fit(pred, mos, fit_logistic(pred, mos))[0]


def rmse(pred: ArrayLike, mos: ArrayLike) -> float:
    """Return the root of the mean squared error after the logistic fit, in MOS units; NaN without a fit, as `plcc`."""
    return metrics_after_fit(pred, mos, fit_logistic(pred, mos))[1]


def metrics_after_fit(pred: ArrayLike, mos: ArrayLike, fit: LogisticFit) -> tuple[float, float]:
    """Return PLCC and RMSE of predictions (N,) and MOS (N,) after a fit.

    Both are NaN after a fit that did not converge, and the PLCC after one that came out flat.
    """
    if not fit.converged:
        return math.nan, math.nan
    fitted = fit(pred)
    rises = np.std(fitted) > FLAT * np.std(np.asarray(mos, dtype=np.float64))
    return plcc_raw(fitted, mos) if rises else math.nan, rmse_raw(fitted, mos)


def fit_logistic(pred: ArrayLike, mos: ArrayLike) -> LogisticFit:
    """Fit the VQEG four-parameter logistic from predictions (N,) to MOS (N,) by least squares.

    The curve always rises: predictions that run against the MOS are not turned over by the fit, so that their PLCC
    after the fit stays negative.

    Returns:
        The fit. With fewer than five videos, or with all predictions or all MOS equal, there is nothing to fit: its
        parameters are NaN and `converged` is False.

    Raises:
        ValueError: for lengths that differ, or a value that is not finite.
    """
    pred, mos = as_pair(pred, mos)
    if len(pred) < MIN_VIDEOS_TO_FIT or is_constant(pred) or is_constant(mos):
        return LogisticFit(math.nan, math.nan, math.nan, math.nan, False)
    # In standard units the same start and bounds serve every scale.
    x_mean, x_std, y_mean, y_std = pred.mean(), pred.std(), mos.mean(), mos.std()
    x, y = (pred - x_mean) / x_std, (mos - y_mean) / y_std
    start = np.array([y.min(), np.ptp(y), 0.0, 1.0])
    (lower, rise, centre, scale), converged = fit_standardised(x, y, np.ones_like(x), start)
    return LogisticFit(
        lower=float(y_mean + y_std * lower),
        upper=float(y_mean + y_std * (lower + rise)),
        centre=float(x_mean + x_std * centre),
        scale=float(x_std * scale),
        converged=converged,
    )


def fit_standardised(x: FloatArray, y: FloatArray, weights: FloatArray, start: FloatArray) -> tuple[FloatArray, bool]:
    """Fit the logistic by weighted least squares, in standard units.

    Args:
        x: (M,) predictions.
        y: (M,) MOS.
        weights: (M,) weights of the squared residuals, such as how many videos share a prediction.
        start: (4,) lower, rise, centre, scale at which the search begins.

    Returns:
        Lower, rise, centre, scale (4,), and whether the search converged.
    """
    from scipy.optimize import least_squares
    from scipy.special import expit

    roots = np.sqrt(weights)

    def residuals(p: FloatArray) -> FloatArray:
        return np.asarray(roots * (p[0] + p[1] * expit((x - p[2]) / p[3]) - y))

    def jacobian(p: FloatArray) -> FloatArray:
        z = (x - p[2]) / p[3]
        rise = expit(z)
        slope = p[1] * rise * (1.0 - rise) / p[3]
        return np.asarray((roots * np.stack([np.ones_like(x), rise, -slope, -slope * z])).T)

    low, high = FIT_BOUNDS
    # Steps and gains below a millionth change no digit that is ever printed.
    found = least_squares(
        residuals,
        np.clip(start, low + 1e-3, high - 1e-3),
        jac=jacobian,
        bounds=(low, high),
        ftol=1e-6,
        xtol=1e-6,
    )
    return found.x, bool(found.success)
