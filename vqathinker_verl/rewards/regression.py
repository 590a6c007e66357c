"""Regression reward: how near the predicted MOS comes to the MOS."""

import numpy as np
from numpy.typing import ArrayLike

from vqathinker_verl.checks import FloatArray, as_vector
from vqathinker_verl.rewards.inputs import Responses


def regression_reward(
    pred_mos: ArrayLike,
    mos: ArrayLike,
    *,
    sigma: float = 0.5,
    decimals: ArrayLike | None = None,
    decimal_penalty: float = 0.8,
    min_decimals: int = 2,
) -> FloatArray:
    """Return exp(-(q - s)^2 / (2 sigma^2)), the bell-shaped reward (docs/rewards.md; arXiv 2508.06051).

    Args:
        pred_mos: (N,) the score q of each response; NaN gives 0.
        mos: (N,) the MOS s of each response's video.
        sigma: width of the bell, in MOS units: at an error of sigma the reward is 0.61.
        decimals: (N,) digits after the point that each answer was given with; None leaves the next two out.
        decimal_penalty: factor on the reward of an answer with fewer than `min_decimals` decimals.
        min_decimals: the decimals asked for.

    Returns:
        (N,) rewards in [0, 1].

    Raises:
        ValueError: for shapes that differ, an infinite score, a MOS that is not finite, or a sigma not above 0.

    >>> regression_reward([3.0, 3.5, float("nan")], [3.0, 3.0, 3.0]).round(4).tolist()
    [1.0, 0.6065, 0.0]
    """
    if not sigma > 0:
        raise ValueError(f"sigma: expected a number above 0, got {sigma}")
    scores = as_vector("pred_mos", pred_mos, nan_allowed=True)
    target = as_vector("mos", mos, length=len(scores))
    # Without a range check a score may be anything; the reward of one whose square overflows is 0, as it should be.
    with np.errstate(over="ignore"):
        reward = np.exp(-0.5 * ((scores - target) / sigma) ** 2)
    if decimals is not None:
        written = as_vector("decimals", decimals, length=len(scores))
        reward = np.where(written < min_decimals, decimal_penalty * reward, reward)
    return np.where(np.isnan(scores), 0.0, reward)


def batch_regression(
    batch: Responses, *, sigma: float = 0.5, decimal_penalty: float = 0.8, min_decimals: int = 2
) -> FloatArray:
    """Return the regression reward (N,) of a batch; NaN for a response without a score or to a video of a chain."""
    chained = batch.videos.chained[batch.group_index]
    reward = regression_reward(
        batch.pred_mos,
        np.where(chained, 0.0, batch.mos),
        sigma=sigma,
        decimals=batch.decimals,
        decimal_penalty=decimal_penalty,
        min_decimals=min_decimals,
    )
    return np.where(np.isnan(batch.pred_mos) | chained, np.nan, reward)
