"""From responses to rewards: every constant in one config, the four rewards put together."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from vqathinker_verl.parsing import Decimals, Fallback, ParsedAnswer, check_choice, parse_answer
from vqathinker_verl.prompts import SCORE_RANGE
from vqathinker_verl.rewards.arrays import FloatArray, IntArray
from vqathinker_verl.rewards.extra import ExtraRewards, load_extra_rewards, weighted_sum
from vqathinker_verl.rewards.format import batch_format
from vqathinker_verl.rewards.groups import GroupIds, Videos, group_variance
from vqathinker_verl.rewards.inputs import make_inputs
from vqathinker_verl.rewards.ranking import batch_ranking, part_index, warn_if_unrivalled
from vqathinker_verl.rewards.regression import batch_regression
from vqathinker_verl.rewards.temporal import TemporalComparison, TemporalScope, batch_temporal, compare_temporally

PerturbedRivals = Literal["original", "perturbed"]


@dataclass(frozen=True, kw_only=True)
class RewardConfig:
    """Every constant of SPEC section 3; checked when made.

    Attributes:
        sigma: width of the regression reward's bell, in MOS units.
        decimal_penalty: factor in [0, 1] on the regression reward of an answer with too few decimals.
        min_decimals: decimals that the prompt asks for.
        eps: keeps the ranking reward's roots and division from 0.
        fallback: what is read where an answer block is missing, see `parse_answer`.
        decimals: how decimals are counted, see `parse_answer`.
        score_range: lowest and highest score accepted; None accepts any number.
        cross_dataset: whether videos of different data sources are compared in the ranking reward.
        ranking_chunk_size: None compares all videos of the batch. A number cuts the batch, in its order, into parts of
            so many videos that know nothing of each other: 2 is the released code, which ranks what one GPU holds.
        temporal_bonus: bonus on a reward for using the order of the frames; 0 switches it off.
        ranking_threshold: ranking reward that must be exceeded for the bonus.
        regression_threshold: regression reward that must be exceeded for the bonus.
        temporal_scope: means per "video", or over the whole "batch" (over each of its parts with `ranking_chunk_size`).
        temporal_margin: by how much the mean reward on the original must exceed the mean on the perturbed video, in
            units of the reward. 0: a draw earns the bonus, so a policy that ignores time earns it always; above 0 a
            draw earns nothing.
        perturbed_rivals: whom a response to a perturbed video is ranked against. "original": the other videos as they
            are, so that only the frames of its own video differ between the two sides compared; "perturbed": the
            other perturbed videos (the released code).
        regression_weight: weight of the regression reward and its bonus in the total.
        ranking_weight: weight of the ranking reward and its bonus.
        format_weight: weight of the format reward.
    """

    sigma: float = 0.5
    decimal_penalty: float = 0.8
    min_decimals: int = 2
    eps: float = 1e-6
    fallback: Fallback = "none"
    decimals: Decimals = "written"
    score_range: tuple[float, float] | None = SCORE_RANGE
    cross_dataset: bool = False
    ranking_chunk_size: int | None = None
    temporal_bonus: float = 0.3
    ranking_threshold: float = 0.5
    regression_threshold: float = 0.9
    temporal_scope: TemporalScope = "video"
    temporal_margin: float = 0.0
    perturbed_rivals: PerturbedRivals = "original"
    regression_weight: float = 1.0
    ranking_weight: float = 1.0
    format_weight: float = 1.0

    def __post_init__(self) -> None:
        check_choice("fallback", self.fallback, Fallback)
        check_choice("decimals", self.decimals, Decimals)
        check_choice("temporal_scope", self.temporal_scope, TemporalScope)
        check_choice("perturbed_rivals", self.perturbed_rivals, PerturbedRivals)
        if not isinstance(self.cross_dataset, bool):
            raise ValueError(f"cross_dataset: expected true or false, got {self.cross_dataset!r}")
        parts = self.ranking_chunk_size
        if parts is not None and (not isinstance(parts, int) or isinstance(parts, bool) or parts < 2):
            raise ValueError(f"ranking_chunk_size: expected a whole number of at least 2, or null, got {parts!r}")
        for name in ("sigma", "eps"):
            self._check_number(name, above=0.0)
        non_negative = ("temporal_bonus", "temporal_margin", "min_decimals")
        for name in (*non_negative, "regression_weight", "ranking_weight", "format_weight"):
            self._check_number(name, at_least=0.0)
        for name in ("ranking_threshold", "regression_threshold"):
            self._check_number(name)
        self._check_number("decimal_penalty", at_least=0.0, at_most=1.0)
        if self.score_range is not None:
            # A list, when it comes from YAML.
            bounds = tuple(self.score_range) if isinstance(self.score_range, Iterable) else ()
            if len(bounds) != 2 or not all(_is_number(bound) for bound in bounds) or not bounds[0] < bounds[1]:
                raise ValueError(f"score_range: expected [lowest, highest] or null, got {self.score_range!r}")
            object.__setattr__(self, "score_range", bounds)

    def _check_number(
        self, name: str, *, above: float | None = None, at_least: float | None = None, at_most: float | None = None
    ) -> None:
        value = getattr(self, name)
        expected = "a finite number"
        fits = _is_number(value)
        if above is not None:
            expected += f" above {above:g}"
            fits = fits and value > above
        if at_least is not None:
            expected += f" of at least {at_least:g}"
            fits = fits and value >= at_least
        if at_most is not None:
            expected += f" and at most {at_most:g}"
            fits = fits and value <= at_most
        if not fits:
            raise ValueError(f"{name}: expected {expected}, got {value!r}")

    @classmethod
    def release(cls) -> "RewardConfig":
        """Return the released code's mode: what differs from the defaults is explained in docs/rewards.md."""
        return cls(
            fallback="text",
            decimals="value",
            score_range=None,
            cross_dataset=True,
            temporal_scope="batch",
            perturbed_rivals="perturbed",
        )

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> "RewardConfig":
        """Return the config that a mapping (a node of a Hydra config, keyword arguments) describes.

        Raises:
            ValueError: for a key that is not a field, or a value out of its range, naming it.
        """
        allowed = [entry.name for entry in fields(cls)]
        unknown = sorted(str(key) for key in mapping if key not in allowed)
        if unknown:
            raise ValueError(
                f"unknown reward setting{'s' if len(unknown) > 1 else ''} {', '.join(unknown)}; "
                f"the settings are {', '.join(allowed)}"
            )
        return cls(**{str(key): value for key, value in mapping.items()})

    def parse(self, response: str) -> ParsedAnswer:
        """Return what a response says, read by these settings."""
        return parse_answer(response, fallback=self.fallback, score_range=self.score_range, decimals=self.decimals)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and bool(np.isfinite(value))


@dataclass(frozen=True, eq=False)
class RewardBatch:
    """The rewards of a batch of N responses, in the order in which they were given.

    Attributes:
        total: (N,) regression_weight (regression + its bonus) + ranking_weight (ranking + its bonus)
            + format_weight format, and the extra rewards with their weights.
        regression: (N,) plain regression reward, without the bonus; 0 without a score.
        ranking: (N,) plain ranking reward, without the bonus; 0 without a score or a rival.
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

        - overall (the totals), regression, ranking, temporal, format: means over all responses.
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
        scored = ~np.isnan(self.videos.mean)
        compared = np.concatenate([comparison.compared for comparison in self.comparisons])
        won = np.concatenate([comparison.won for comparison in self.comparisons])
        return {
            "overall": _mean(self.total),
            "regression": _mean(self.regression),
            "ranking": _mean(self.ranking),
            "temporal": _mean(self.temporal),
            "format": _mean(self.format),
            "parse_failure_rate": _mean(np.isnan(self.pred_mos)),
            "group_std": _mean(stds),
            "ranking_accuracy": _ranking_accuracy(self.videos),
            "srcc": srcc(self.videos.mean[scored], self.videos.mos[scored]),
            "temporal_win_rate": _mean(won[compared]),
            "temporal_excluded": float(np.sum(~(self.comparisons[0].compared | self.comparisons[1].compared))),
            **{name: _mean(values[~np.isnan(values)]) for name, values in self.extra.items()},
        }


def _mean(values: ArrayLike) -> float:
    array = np.asarray(values, dtype=np.float64)
    return float(array.mean()) if array.size else float("nan")


def _ranking_accuracy(videos: Videos) -> float:
    right = pairs = 0.0
    for video in np.flatnonzero(~np.isnan(videos.mean)):  # a row at a time: memory stays linear in the videos
        # Each pair is met once, from the side of the better video.
        comparable = (videos.mos < videos.mos[video]) & (videos.source == videos.source[video])
        worse = videos.mean[comparable & ~np.isnan(videos.mean)]
        right += float(np.sum(worse < videos.mean[video]) + 0.5 * np.sum(worse == videos.mean[video]))
        pairs += len(worse)
    return right / pairs if pairs else float("nan")


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
) -> RewardBatch:
    """Return the rewards of a whole training batch (SPEC section 3).

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
        perturbations: (M,) how the video of each perturbed response was perturbed, for the extra rewards.

    Returns:
        The rewards, and their `metrics()`. A video without perturbed responses earns no temporal bonus, nor does one
        whose perturbed responses all lack a score; both are counted as temporal_excluded.

    Raises:
        ValueError: for lengths that differ, a missing group id, a perturbed group id unknown to `group_ids`, a MOS
            that is not finite, or a group with more than one MOS or data source; for an extra reward that cannot be
            loaded, or returns anything but one finite number or NaN per response.
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
    )
    on_regression = {name: getattr(config, name) for name in ("sigma", "decimal_penalty", "min_decimals")}
    on_ranking = {name: getattr(config, name) for name in ("eps", "ranking_chunk_size")}
    regression = batch_regression(batch, **on_regression)
    ranking = batch_ranking(batch, **on_ranking)
    layout = batch_format(batch)
    warn_if_unrivalled(batch.pred_mos, ranking)

    against = batch if config.perturbed_rivals == "original" else batch.perturbed
    p_regression = batch_regression(batch.perturbed, **on_regression)
    p_ranking = batch_ranking(batch.perturbed, against=against, **on_ranking)
    comparisons, bonuses = [], []
    for reward, perturbed, threshold in (
        (ranking, p_ranking, config.ranking_threshold),
        (regression, p_regression, config.regression_threshold),
    ):
        comparison = compare_temporally(
            reward,
            perturbed,
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
