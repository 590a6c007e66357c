"""Temporal bonus: extra reward where the frames in their true order did at least as well as the perturbed ones."""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vqathinker_verl.checks import FloatArray, IntArray, as_vector
from vqathinker_verl.parsing import check_choice
from vqathinker_verl.rewards.groups import GroupIds, group_mean, index_among, label_index
from vqathinker_verl.rewards.inputs import Responses

TemporalScope = Literal["video", "batch"]

# Equal rewards have means that differ in their last digits when one side has more of them: still a draw.
_ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class TemporalComparison:
    """How one reward fared on the original and on the perturbed videos; arrays of shape (V,).

    Attributes:
        compared: whether the video has verdicts on both sides.
        won: whether its mean on the original is at least that on the perturbed video, or above it by the margin where
            one is set (False where not compared).
    """

    compared: NDArray[np.bool_]
    won: NDArray[np.bool_]


def temporal_bonus(
    reward: ArrayLike,
    reward_perturbed: ArrayLike,
    group_ids: GroupIds,
    perturbed_group_ids: GroupIds,
    *,
    threshold: float,
    bonus: float = 0.3,
    scope: TemporalScope = "video",
    margin: float = 0.0,
) -> FloatArray:
    """Return the bonus that each response earns on one of its rewards (docs/rewards.md; the idea is Video-R1's).

    A response earns `bonus` when its reward is above `threshold` and the mean reward of the responses to the original
    is at least the mean reward of the responses to the perturbed video. The means are per video, or over the batch
    with scope="batch" (the released code); over the batch, only videos that have both sides count.

    Without a margin a draw earns the bonus, so a policy that ignores time earns it always. With a margin above 0 the
    mean on the original must exceed the mean on the perturbed video by at least the margin, and a draw earns nothing.

    Args:
        reward: (N,) rewards on the original videos; NaN for a response without a score, which has no part in a mean
            and earns nothing.
        reward_perturbed: (M,) rewards of the same kind on the perturbed videos.
        group_ids: (N,) the video of each response.
        perturbed_group_ids: (M,) the video that each perturbed response is about, under the same ids.
        threshold: reward that must be exceeded.
        bonus: what is earned, at least 0.
        scope: "video" or "batch".
        margin: by how much the mean on the original must exceed the other, at least 0, in units of the reward.

    Returns:
        (N,) values that are 0 or `bonus`. A video without perturbed responses earns nothing.

    Raises:
        ValueError: for shapes that differ, a negative bonus, a margin that is negative or not finite, or a perturbed
            group id that is not among `group_ids`.

    >>> temporal_bonus([0.8, 0.2], [0.5], ["a", "a"], ["a"], threshold=0.5).tolist()
    [0.3, 0.0]
    >>> temporal_bonus([0.8, 0.2], [0.5], ["a", "a"], ["a"], threshold=0.5, margin=0.1).tolist()  # 0.5 against 0.5
    [0.0, 0.0]
    """
    if not bonus >= 0:
        raise ValueError(f"bonus: expected a number of at least 0, got {bonus}")
    original = as_vector("reward", reward, nan_allowed=True)
    perturbed = as_vector("reward_perturbed", reward_perturbed, nan_allowed=True)
    index, ids = label_index("group_ids", group_ids, len(original))
    perturbed_index = index_among("perturbed_group_ids", perturbed_group_ids, ids, len(perturbed))
    comparison = compare_temporally(original, perturbed, index, perturbed_index, len(ids), scope=scope, margin=margin)
    return _earned(original, index, comparison, threshold=threshold, bonus=bonus)


def batch_temporal(
    batch: Responses, reward: FloatArray, comparison: TemporalComparison, *, threshold: float, bonus: float = 0.3
) -> FloatArray:
    """Return the bonus (N,) that the responses of a batch earn on one of their rewards, which has been compared.

    Args:
        batch: the responses.
        reward: (N,) the reward that the bonus is on; NaN earns nothing.
        comparison: of this reward, by `compare_temporally`.
        threshold: reward that must be exceeded.
        bonus: what is earned.
    """
    return _earned(reward, batch.group_index, comparison, threshold=threshold, bonus=bonus)


def _earned(
    reward: FloatArray, index: IntArray, comparison: TemporalComparison, *, threshold: float, bonus: float
) -> FloatArray:
    return np.where(comparison.won[index] & (reward > threshold), bonus, 0.0)


def compare_temporally(
    reward: FloatArray,
    reward_perturbed: FloatArray,
    index: IntArray,
    perturbed_index: IntArray,
    num_videos: int,
    *,
    scope: TemporalScope = "video",
    margin: float = 0.0,
    parts: IntArray | None = None,
) -> TemporalComparison:
    """Compare the mean rewards on original and perturbed videos; see `temporal_bonus`.

    Args:
        reward: (N,) rewards on the original videos, NaN for no verdict.
        reward_perturbed: (M,) rewards on the perturbed videos.
        index: (N,) the video of each response, from 0 to V - 1.
        perturbed_index: (M,) the video of each perturbed response.
        num_videos: V.
        scope: "video" or "batch".
        margin: by how much the original's mean must exceed the other.
        parts: (V,) cuts the batch into parts, numbered from 0, each of which scope="batch" treats as a batch of its
            own; None means one part.
    """
    check_choice("scope", scope, TemporalScope)
    if not 0 <= margin < math.inf:
        raise ValueError(f"margin: expected a finite number of at least 0, got {margin}")
    mean = group_mean(reward, index, num_videos)
    mean_perturbed = group_mean(reward_perturbed, perturbed_index, num_videos)
    compared = ~np.isnan(mean) & ~np.isnan(mean_perturbed)
    if scope == "batch":
        # Over responses, not over videos: that is what the released code averages.
        part = parts if parts is not None else np.zeros(num_videos, dtype=np.int64)
        count = int(part.max(initial=-1)) + 1
        mean = group_mean(np.where(compared[index], reward, np.nan), part[index], count)[part]
        on_both = np.where(compared[perturbed_index], reward_perturbed, np.nan)
        mean_perturbed = group_mean(on_both, part[perturbed_index], count)[part]
    gap = mean - mean_perturbed
    # A margin smaller than the rounding must not turn a draw into a win.
    required = max(margin - _ROUNDING, _ROUNDING) if margin > 0 else -_ROUNDING
    return TemporalComparison(compared, compared & (gap >= required))
