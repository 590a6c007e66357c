"""Accuracy of the order of pairs: of labelled videos, and inside chains, whose order is known and whose MOS is not."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from vqathinker_verl.checks import FloatArray, IntArray, as_vector

# Differences of MOS that are equal as written differ by rounding once they are mapped to [1, 5].
GAP_ROUNDING = 1e-9


def pair_accuracy(scores: FloatArray, order: FloatArray, groups: IntArray, min_gap: float = 0.0) -> float:
    """Return the share of the pairs of one group that the scores put in the right order; NaN without pairs.

    A pair is two videos of one group whose values of `order` differ, by `min_gap` or more. Equal scores count half.
    Videos without a score are in no pair.

    Args:
        scores: (N,) NaN for none.
        order: (N,) what a better video has more of, such as its MOS.
        groups: (N,) the group of each video.
        min_gap: smallest difference of `order` in a pair, 0 or more; 1e-9 less counts as equal.

    >>> pair_accuracy(np.array([4.0, 3.0, 3.5]), np.array([5.0, 3.0, 1.0]), np.array([0, 0, 0]))
    0.6666666666666666
    """
    right, pairs = count_pairs(scores, order, groups, min_gap)
    return right / pairs if pairs else float("nan")


def count_pairs(scores: FloatArray, order: FloatArray, groups: IntArray, min_gap: float = 0.0) -> tuple[float, int]:
    """Return how many pairs the scores put in the right order, a tie counting half, and how many pairs there are.

    Arguments are those of `pair_accuracy`.
    """
    right, pairs = count_pairs_by_group(scores, order, groups, min_gap)
    return float(right.sum()), int(pairs.sum())


def count_pairs_by_group(
    scores: FloatArray, order: FloatArray, groups: IntArray, min_gap: float = 0.0
) -> tuple[FloatArray, IntArray]:
    """Return what `count_pairs` does for each of the G groups in the order of their numbers, both (G,)."""
    known = ~np.isnan(scores)
    scores, order, groups = scores[known], order[known], groups[known]
    numbers = np.unique(groups)
    right, pairs = np.zeros(len(numbers)), np.zeros(len(numbers), dtype=np.int64)
    for place, group in enumerate(numbers):
        rising = np.flatnonzero(groups == group)
        rising = rising[np.argsort(order[rising], kind="stable")]
        values, ranked = order[rising], scores[rising]
        num_lower = np.searchsorted(values, values, side="left")
        num_far = np.searchsorted(values, values - min_gap + GAP_ROUNDING, side="right")
        # A row at a time: memory stays linear in the videos. Each pair is met once, from the side of the better video.
        for score, end in zip(ranked, np.minimum(num_lower, num_far), strict=True):
            worse = ranked[:end]
            right[place] += np.count_nonzero(worse < score) + 0.5 * np.count_nonzero(worse == score)
            pairs[place] += end
    return right, pairs


def chain_accuracy(pred_mos: ArrayLike, chains: Sequence[str], strengths: ArrayLike) -> float:
    """Return the share of the pairs of one chain that the scores put in the right order.

    A pair is two videos of one chain with different strengths. It is right if the weaker distortion has the higher
    score; equal scores count half. Videos without a score (NaN) are in no pair.

    Args:
        pred_mos: (N,) scores, NaN for none.
        chains: (N,) the chain of each video.
        strengths: (N,) the strength of its distortion.

    Returns:
        A number in [0, 1]; NaN without pairs.

    Raises:
        ValueError: for lengths that differ, or a strength that is not finite.

    >>> chain_accuracy([4.0, 3.0, 3.5], ["a", "a", "a"], [0.0, 0.5, 1.0])
    0.6666666666666666
    """
    scores = as_vector("pred_mos", pred_mos, nan_allowed=True)
    strength = as_vector("strengths", strengths, length=len(scores))
    if len(chains) != len(scores):
        raise ValueError(f"chains: expected {len(scores)} values, one per response, got {len(chains)}")
    _, index = np.unique(np.asarray(chains, dtype=str), return_inverse=True)
    return pair_accuracy(scores, -strength, index)
