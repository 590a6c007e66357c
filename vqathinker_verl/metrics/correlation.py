"""The metrics that compare predictions with the MOS as they are: SRCC, KRCC, raw PLCC and raw RMSE.

SciPy's statistics are imported where they are used, since that takes longer than importing everything else in the
package.
"""

import math

import numpy as np
from numpy.typing import ArrayLike

from vqathinker_verl.checks import FloatArray, as_vector


def srcc(pred: ArrayLike, mos: ArrayLike) -> float:
    """Return Spearman's rank-order correlation of predictions (N,) and MOS (N,), in [-1, 1]; ties share a rank.

    Returns:
        The correlation; NaN where it is undefined: fewer than two videos, or all predictions or all MOS equal.

    Raises:
        ValueError: for lengths that differ, or a value that is not finite. Missing predictions are left to the
            caller, or to `evaluate_predictions`.

    >>> srcc([1.0, 2.0, 4.0], [1.5, 1.7, 1.8])
    1.0
    """
    pred, mos = as_pair(pred, mos)
    return _correlation(_ranks(pred), _ranks(mos))


def krcc(pred: ArrayLike, mos: ArrayLike) -> float:
    """Return Kendall's rank correlation (tau-b, which allows for ties) of predictions and MOS; else as `srcc`."""
    from scipy.stats import kendalltau

    pred, mos = as_pair(pred, mos)
    if is_constant(pred) or is_constant(mos):
        return math.nan
    return float(kendalltau(pred, mos).statistic)


def plcc_raw(pred: ArrayLike, mos: ArrayLike) -> float:
    """Return Pearson's linear correlation of predictions (N,) and MOS (N,), without any fit; else as `srcc`."""
    return _correlation(*as_pair(pred, mos))


def rmse_raw(pred: ArrayLike, mos: ArrayLike) -> float:
    """Return the root of the mean squared error without any fit, in MOS units; NaN for no video. Raises as `srcc`."""
    pred, mos = as_pair(pred, mos)
    return float(np.sqrt(np.mean((pred - mos) ** 2))) if len(pred) else math.nan


def as_pair(pred: ArrayLike, mos: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Return predictions and MOS as float64 vectors (N,), checked as in `srcc`."""
    scores = as_vector("pred", pred)
    return scores, as_vector("mos", mos, length=len(scores))


def is_constant(values: FloatArray) -> bool:
    """Whether values (N,) are all equal, so that they have no correlation; also true of fewer than two."""
    return len(values) < 2 or bool(np.all(values == values[0]))


def _ranks(values: FloatArray) -> FloatArray:
    """Return ranks from 1; equal values share the mean of theirs.

    As scipy.stats.rankdata, whose package takes seconds to import; the trainer logs SRCC at every step, and no more.
    """
    _, index, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: FloatArray = (np.cumsum(counts) - (counts - 1) / 2)[index]
    return ranks


def _correlation(x: FloatArray, y: FloatArray) -> float:
    """Return Pearson's correlation; NaN where a side is constant."""
    if is_constant(x) or is_constant(y):
        return math.nan
    x, y = x - x.mean(), y - y.mean()
    # Scaled first, so that neither squares nor their sum can vanish or overflow.
    x, y = x / np.abs(x).max(), y / np.abs(y).max()
    return float(np.clip(x @ y / math.sqrt((x @ x) * (y @ y)), -1.0, 1.0))
