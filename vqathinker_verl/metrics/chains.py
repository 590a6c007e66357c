"""Accuracy of the order inside chains: videos whose order is known and whose MOS is not."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from vqathinker_verl.checks import as_vector


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
    members: dict[str, list[int]] = {}
    for number, chain in enumerate(chains):
        if not np.isnan(scores[number]):
            members.setdefault(chain, []).append(number)
    right = pairs = 0.0
    for numbers in members.values():
        rows = np.array(numbers)
        weaker = strength[rows, None] < strength[rows]
        gap = scores[rows, None] - scores[rows]
        right += float(np.sum(0.5 * (1 + np.sign(gap[weaker]))))
        pairs += float(weaker.sum())
    return right / pairs if pairs else float("nan")
