"""From responses to rewards: the four rewards, and those of one's own, put together over one batch."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vqathinker_verl.checks import FloatArray, IntArray
from vqathinker_verl.rewards.config import RewardConfig
from vqathinker_verl.rewards.extra import ExtraRewards, load_extra_rewards, weighted_sum
from vqathinker_verl.rewards.format import batch_format
from vqathinker_verl.rewards.groups import GroupIds, Videos, group_variance
from vqathinker_verl.rewards.inputs import make_inputs
from vqathinker_verl.rewards.ranking import batch_ranking, part_index, warn_if_alone
from vqathinker_verl.rewards.regression import batch_regression
from vqathinker_verl.rewards.temporal import TemporalComparison, batch_temporal, compare_temporally


@dataclass(frozen=True, eq=False)
class RewardBatch:
    """The rewards of a batch of N responses, in the order in which they were given.

    Attributes:
        total: (N,) regression_weight (regression + its bonus) + ranking_weight (ranking + its bonus)
            + format_weight format, and the extra rewards with their weights.
        regression: (N,) plain regression reward, without the bonus; 0 without a score.
        ranking: (N,) plain ranking reward, without the bonus; 0 without a score or a compared video.
        temporal: (N,) sum of the response's two temporal bonuses, before the weights.
        format: (N,) format reward.
        pred_mos: (N,) score of the response, NaN for none.
        extra: the extra rewards by name, (N,) each, before their weights; NaN for "no verdict".
        group_index: (N,) which video of `videos` a response belongs to.
        videos: the videos of the batch, in the order in which they first occur.
        comparisons: the temporal comparison of the ranking and of the regression reward.
    """

    total: FloatArray
    regression: FloatArray
    ranking: FloatArray
    temporal: FloatArray
    format: FloatArray
    pred_mos: FloatArray
    group_index: IntArray = field(repr=False)
    videos: Videos = field(repr=False)
    comparisons: tuple[TemporalComparison, TemporalComparison] = field(repr=False)
    extra: dict[str, FloatArray] = field(default_factory=dict)

    def metrics(self) -> dict[str, float]:
        """Return what is worth logging of the batch, always under the same keys; NaN where it is undefined.

        - overall (the totals), format: means over all responses.
        - regression, ranking, temporal: means over the responses to labelled videos, which are of no chain.
        - chain_ranking: mean ranking reward over the responses to videos of chains.
        - chain_accuracy: share of the pairs of one chain, of different strength, whose mean scores put the weaker
          distortion first; an equal mean counts half.
        - parse_failure_rate: share of the responses without a score.
        - group_std: unbiased standard deviation of `total` inside a group, mean over the groups of at least two; at 0
          there is nothing for GRPO to learn from.
        - ranking_accuracy: share of the comparable pairs of videos (one data source, different MOS) that their mean
          scores put in the order of their MOS; an equal mean counts half.
        - srcc: Spearman correlation of the videos' mean scores with their MOS.
        - temporal_win_rate: share of the comparisons, two per video (ranking and regression), in which the mean reward
          on the original is at least that on the perturbed video (draws included), or exceeds it by at least
          `temporal_margin` where that is above 0 (draws excluded); NaN when no video was perturbed.
        - temporal_excluded: number of videos with neither comparison.
        - each extra reward by its name: mean over the responses on which it has a verdict.
        """
        from vqathinker_verl.metrics import srcc

        num_videos = len(self.videos.ids)
        sizes = np.bincount(self.group_index, minlength=num_videos)
        stds = np.sqrt(group_variance(self.total, self.group_index, num_videos))[sizes > 1]
        chained = self.videos.chained
        labelled = ~chained[self.group_index]
        scored = ~np.isnan(self.videos.mean) & ~chained
        compared = np.concatenate([comparison.compared for comparison in self.comparisons])
        won = np.concatenate([comparison.won for comparison in self.comparisons])
        return {
            "overall": _mean(self.total),
            "regression": _mean(self.regression[labelled]),
            "ranking": _mean(self.ranking[labelled]),
            "chain_ranking": _mean(self.ranking[~labelled]),
            "temporal": _mean(self.temporal[labelled]),
            "format": _mean(self.format),
            "parse_failure_rate": _mean(np.isnan(self.pred_mos)),
            "group_std": _mean(stds),
            "ranking_accuracy": _ranking_accuracy(self.videos, ~chained),
            "chain_accuracy": _ranking_accuracy(self.videos, chained),
            "srcc": srcc(self.videos.mean[scored], self.videos.mos[scored]),
            "temporal_win_rate": _mean(won[compared]),
            "temporal_excluded": float(
                np.sum(~chained & ~(self.comparisons[0].compared | self.comparisons[1].compared))
            ),
            **{name: _mean(values[~np.isnan(values)]) for name, values in self.extra.items()},
        }


def _mean(values: ArrayLike) -> float:
    array = np.asarray(values, dtype=np.float64)
    return float(array.mean()) if array.size else float("nan")


def _ranking_accuracy(videos: Videos, among: NDArray[np.bool_]) -> float:
    from vqathinker_verl.metrics import pair_accuracy

    return pair_accuracy(videos.mean[among], videos.order[among], videos.source[among])


def score_batch(
    responses: Sequence[str],
    mos: ArrayLike,
    group_ids: GroupIds,
    *,
    perturbed_responses: Sequence[str] | None = None,
    perturbed_group_ids: GroupIds | None = None,
    data_sources: GroupIds | None = None,
    config: RewardConfig | None = None,
    extra_rewards: ExtraRewards | None = None,
    video_ids: Sequence[Hashable] | None = None,
    perturbations: Sequence[str | None] | None = None,
    chains: Sequence[str | None] | None = None,
    strengths: ArrayLike | None = None,
) -> RewardBatch:
    """Return the rewards of a whole training batch (docs/rewards.md).

    Args:
        responses: N responses to the original videos.
        mos: (N,) MOS of each response's video.
        group_ids: (N,) which video each response belongs to (verl's `uid`).
        perturbed_responses: M responses to the perturbed videos; None or none of them switches the bonus off.
        perturbed_group_ids: (M,) which of the batch's videos each of them is about.
        data_sources: (N,) data set of each response's video; None means one data set.
        config: the constants; None means the defaults.
        extra_rewards: rewards of one's own by name, as ExtraReward or as the configuration gives them
            (docs/custom_rewards.md).
        video_ids: (N,) name of each response's video, for the extra rewards; None means the group's id.
        chains: (N,) the chain that each response's video belongs to, None for a labelled video. A video of a chain has
            no MOS (its `mos` is not read). It is ranked against the other videos of its chain and nothing else, gets no
            regression reward and no temporal bonus, and has no part in what labelled videos get.
        strengths: (N,) strength of the distortion of each response's video; read where `chains` names one.
        perturbations: (M,) how the video of each perturbed response was perturbed, for the extra rewards.

    Returns:
        The rewards, and their `metrics()`. A video without perturbed responses earns no temporal bonus, nor does one
        whose perturbed responses all lack a score; both are counted as temporal_excluded.

    Raises:
        ValueError: for lengths that differ, a missing group id, a perturbed group id unknown to `group_ids`, a MOS
            of a labelled video that is not finite or outside `config.score_range`, a missing strength, or a group with
            more than one MOS, data source, chain or strength; for an extra reward that cannot be loaded, or returns
            anything but one finite number or NaN per response.
        RuntimeError: for an extra reward that fails.

    >>> responses = ["<think>Sharp.</think><answer>4.00</answer>", "<think>Noise.</think><answer>2</answer>"]
    >>> batch = score_batch(responses, [4.0, 2.0], ["a", "b"])
    >>> batch.regression.tolist(), batch.ranking.round(3).tolist(), batch.format.tolist()
    ([1.0, 0.8], [1.001, 1.001], [1.0, 1.0])
    """
    config = config or RewardConfig()
    extra = load_extra_rewards(extra_rewards)
    batch = make_inputs(
        responses,
        mos,
        group_ids,
        parse=config.parse,
        perturbed_responses=perturbed_responses,
        perturbed_group_ids=perturbed_group_ids,
        perturbations=perturbations,
        data_sources=data_sources,
        video_ids=video_ids,
        cross_dataset=config.cross_dataset,
        chains=chains,
        strengths=strengths,
    )
    _check_range(batch.videos, config)
    on_regression = {name: getattr(config, name) for name in ("sigma", "decimal_penalty", "min_decimals")}
    on_ranking = {name: getattr(config, name) for name in ("eps", "ranking_chunk_size")}
    regression = batch_regression(batch, **on_regression)
    ranking = batch_ranking(batch, **on_ranking)
    layout = batch_format(batch, prompt_opens_think=config.prompt_opens_think)
    warn_if_alone(batch.pred_mos, ranking)

    against = batch if config.perturbed_ranked_against == "original" else batch.perturbed
    p_regression = batch_regression(batch.perturbed, **on_regression)
    p_ranking = batch_ranking(batch.perturbed, against=against, **on_ranking)
    labelled, p_labelled = (~batch.videos.chained[side.group_index] for side in (batch, batch.perturbed))
    comparisons, bonuses = [], []
    for reward, perturbed, threshold in (
        (ranking, p_ranking, config.ranking_threshold),
        (regression, p_regression, config.regression_threshold),
    ):
        reward = np.where(labelled, reward, np.nan)
        comparison = compare_temporally(
            reward,
            np.where(p_labelled, perturbed, np.nan),
            batch.group_index,
            batch.perturbed.group_index,
            len(batch.videos),
            scope=config.temporal_scope,
            margin=config.temporal_margin,
            parts=part_index(len(batch.videos), config.ranking_chunk_size),
        )
        comparisons.append(comparison)
        bonuses.append(batch_temporal(batch, reward, comparison, threshold=threshold, bonus=config.temporal_bonus))
    ranking_bonus, regression_bonus = bonuses

    # Without a verdict there is no reward.
    regression, ranking = np.nan_to_num(regression), np.nan_to_num(ranking)
    values = {name: reward.evaluate(batch, name=name) for name, reward in extra.items()}
    total = (
        config.regression_weight * (regression + regression_bonus)
        + config.ranking_weight * (ranking + ranking_bonus)
        + config.format_weight * layout
        + weighted_sum(extra, values)
    )
    return RewardBatch(
        total=total,
        regression=regression,
        ranking=ranking,
        temporal=ranking_bonus + regression_bonus,
        format=layout,
        pred_mos=batch.pred_mos,
        group_index=batch.group_index,
        videos=batch.videos,
        comparisons=(comparisons[0], comparisons[1]),
        extra=values,
    )


def _check_range(videos: Videos, config: RewardConfig) -> None:
    """A MOS of another scale would give rewards that mean nothing."""
    if config.score_range is None:
        return
    lowest, highest = config.score_range
    outside = (videos.mos < lowest) | (videos.mos > highest)
    if outside.any():
        position = int(np.argmax(outside))
        raise ValueError(
            f"mos of group {videos.ids[position]!r}: expected a MOS in [{lowest:g}, {highest:g}], got "
            f"{videos.mos[position]:g}; map the labels to this scale, or set score_range"
        )
