"""Ranking reward: whether a response puts its video in the right order among the batch's other videos."""

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from vqathinker_verl.checks import FloatArray, IntArray, as_vector
from vqathinker_verl.rewards.groups import GroupIds, Videos, batch_videos
from vqathinker_verl.rewards.inputs import Responses
from vqathinker_verl.rewards.notices import warn_once

# Response-video pairs worked on at once: a few arrays of 1 MiB, whatever the batch.
_PAIRS_PER_BLOCK = 2**17


def ranking_reward(
    pred_mos: ArrayLike,
    mos: ArrayLike,
    group_ids: GroupIds,
    *,
    data_sources: GroupIds | None = None,
    eps: float = 1e-6,
) -> FloatArray:
    """Return the mean fidelity of each response against every other video of the batch.

    Response j of video i, with score q_ij, meets video z, whose responses have mean m_z and unbiased variance v_z:
    p = Phi((q_ij - m_z) / sqrt(v_i + v_z + eps)) is the probability that video i is the better one, and
    t = 1, 0.5 or 0 says by the MOS whether it is (Thurstone's model; arXiv 2505.14460, equations 3 to 5). The fidelity
    is sqrt(p t + eps) + sqrt((1 - p)(1 - t) + eps); the reward is its mean over z (docs/rewards.md).

    Responses without a score (NaN) get 0 and take no part in means and variances; a video none of whose responses has
    a score is compared with nothing. A response without a compared video gets 0, and a warning says so once.

    Args:
        pred_mos: (N,) the score of each response, NaN for none.
        mos: (N,) the MOS of each response's video.
        group_ids: (N,) which video each response belongs to; any hashable values, in any order.
        data_sources: (N,) the data set of each response's video; only videos of the same one are compared, because
            the MOS of two data sets lie on different scales. None compares all.
        eps: keeps the roots and the division from 0.

    Returns:
        (N,) rewards in [0, sqrt(1 + eps) + sqrt(eps)], which is 1.001 for the default eps: 0 only without a score or
        compared video, else at least 2 sqrt(eps).

    Raises:
        ValueError: for shapes that differ, a missing group id, an infinite score, or a group whose MOS or data source
            is not one.

    >>> ranking_reward([4.0, 2.0], [4.5, 1.5], ["a", "b"]).round(3).tolist()
    [1.001, 1.001]
    """
    if not eps > 0:
        raise ValueError(f"eps: expected a number above 0, got {eps}")
    scores = as_vector("pred_mos", pred_mos, nan_allowed=True)
    index, videos = batch_videos(scores, mos, group_ids, data_sources)
    reward = mean_fidelity(scores, index, videos.variance[index], videos, eps=eps)
    warn_if_alone(scores, reward)
    return np.nan_to_num(reward, copy=False, nan=0.0)


def batch_ranking(
    batch: Responses, *, against: Responses | None = None, eps: float = 1e-6, ranking_chunk_size: int | None = None
) -> FloatArray:
    """Return the ranking reward (N,) of a batch; NaN for a response without a score or another video.

    Args:
        batch: the responses.
        against: the responses whose means are the compared videos' scores, of the same videos; None means `batch`.
        eps: see `ranking_reward`.
        ranking_chunk_size: None compares all videos; a number cuts them, in their order, into parts of so many, and
            only videos of one part are compared.
    """
    videos = (batch if against is None else against).videos
    # Compared are videos of one source, so each part gets source numbers of its own. A chain is in no part.
    parts = np.zeros(len(videos), dtype=np.int64)
    parts[~videos.chained] = part_index(int(np.sum(~videos.chained)), ranking_chunk_size)
    videos = replace(videos, source=videos.source * (len(videos) + 1) + parts)
    return mean_fidelity(batch.pred_mos, batch.group_index, batch.videos.variance[batch.group_index], videos, eps=eps)


def part_index(num_videos: int, size: int | None) -> IntArray:
    """Return the part of the batch (V,) that each video is in when it is cut into parts of `size` videos."""
    return np.arange(num_videos) // (size or max(1, num_videos))


def warn_if_alone(scores: FloatArray, reward: FloatArray) -> None:
    """Warn, once, of responses that have a score and yet no ranking reward (NaN)."""
    if (~np.isnan(scores) & np.isnan(reward)).any():
        warn_once(
            "ranking reward is 0 for responses whose video has no other video to be compared with: "
            "it needs at least two videos of one data source, with scores, in the batch"
        )


def mean_fidelity(
    scores: FloatArray, index: IntArray, variance: FloatArray, videos: Videos, *, eps: float
) -> FloatArray:
    """Return the mean fidelity (N,) of responses of the videos `index` against all other videos; NaN where none is.

    Args:
        scores: (N,) score of each response, NaN for none (then NaN is returned).
        index: (N,) the video that each response speaks of.
        variance: (N,) variance of the scores of the response's own group.
        videos: the compared videos, with their means and variances.
        eps: see `ranking_reward`.
    """
    # Imported here because it takes longer than all the rest of the package together.
    from scipy.special import ndtr

    others = np.flatnonzero(~np.isnan(videos.mean))
    reward = np.full(len(scores), np.nan)
    rows_per_block = max(1, _PAIRS_PER_BLOCK // max(1, len(others)))
    scored = np.flatnonzero(~np.isnan(scores))
    for begin in range(0, len(scored), rows_per_block):
        rows = scored[begin : begin + rows_per_block]
        own = index[rows]
        spread = np.sqrt(variance[rows, None] + videos.variance[others] + eps)
        prob = ndtr((scores[rows, None] - videos.mean[others]) / spread)
        truth = 0.5 * (1.0 + np.sign(videos.order[own, None] - videos.order[others]))
        fidelity = np.sqrt(prob * truth + eps) + np.sqrt((1.0 - prob) * (1.0 - truth) + eps)
        compared = (videos.source[own, None] == videos.source[others]) & (own[:, None] != others)
        count = compared.sum(axis=1)
        total = np.einsum("ij,ij->i", fidelity, compared)
        reward[rows] = np.divide(total, count, out=np.full(len(rows), np.nan), where=count > 0)
    return reward
