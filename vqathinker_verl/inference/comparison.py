"""Compare two videos with a probability, and rank several, marking the pairs that are not decided."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from vqathinker_verl.inference.predictions import Prediction

# Keeps the division from 0, as in the ranking reward.
EPS = 1e-6
# A pair is decided from this probability on: half way between a guess (0.5) and certainty, where a just
# noticeable difference is usually placed in paired comparisons.
MIN_PROB = 0.75


def preference_prob(a: Prediction, b: Prediction) -> float:
    """Return the probability that `a` is the better video; that of the swapped pair is 1 minus it.

    Thurstone's model, as in the ranking reward: Phi((m_a - m_b) / sqrt(v_a + v_b + eps)) with mean m and variance v of
    each score's distribution.

    Returns:
        A probability in [0, 1]; NaN where a video has no score or no spread.

    >>> a, b = (Prediction("", name, score, pred_mos_std=0.5) for name, score in (("a", 4.0), ("b", 3.0)))
    >>> round(preference_prob(a, b), 4), round(preference_prob(b, a), 4)
    (0.9214, 0.0786)
    """
    from scipy.special import ndtr

    spread = math.sqrt(a.pred_mos_std**2 + b.pred_mos_std**2 + EPS)
    return float(ndtr((a.pred_mos - b.pred_mos) / spread))


@dataclass(frozen=True)
class Ranked:
    """One place of a ranking.

    Attributes:
        prediction: The video with its score.
        rank: 1 for the best.
        unclear: Ids of the videos from which it cannot be distinguished, in the order of the ranking.
    """

    prediction: Prediction
    rank: int
    unclear: tuple[str, ...]


def check_min_prob(min_prob: float) -> None:
    """Raise ValueError if `min_prob` is out of range, as `rank` does."""
    if not 0.5 <= min_prob <= 1:
        raise ValueError(f"min_prob: expected a probability in [0.5, 1], got {min_prob}")


def rank(predictions: Sequence[Prediction], *, min_prob: float = MIN_PROB) -> list[Ranked]:
    """Return the videos that have a score, best first, each with those from which it cannot be distinguished.

    Args:
        predictions: Scores with their spread.
        min_prob: A pair is decided if one of the two is better with at least this probability, in [0.5, 1].

    Raises:
        ValueError: `min_prob` is out of range.
    """
    check_min_prob(min_prob)
    scored = [one for one in predictions if one.scored and not math.isnan(one.pred_mos_std)]
    order = sorted(scored, key=lambda one: (-one.pred_mos, one.video_id))

    def unclear(one: Prediction, other: Prediction) -> bool:
        prob = preference_prob(one, other)
        return max(prob, 1 - prob) < min_prob

    return [
        Ranked(one, place, tuple(other.video_id for other in order if other is not one and unclear(one, other)))
        for place, one in enumerate(order, start=1)
    ]
