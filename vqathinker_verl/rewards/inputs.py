"""The input of a reward function: the parsed responses of a batch with their videos, read-only."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike

from vqathinker_verl.checks import FloatArray, IntArray, make_read_only
from vqathinker_verl.parsing import ParsedAnswer
from vqathinker_verl.rewards.groups import GroupIds, Videos, batch_videos, group_mean, group_variance, index_among


@dataclass(frozen=True, eq=False, kw_only=True)
class Responses:
    """N responses to the V videos of a batch. Every attribute but `videos` has one entry per response.

    Arrays cannot be written to; copy one to change it.

    Attributes:
        responses: the texts.
        pred_mos: (N,) float64, the score that each response gives, NaN for none.
        decimals: (N,) float64, digits after the point of that score, as `RewardConfig.decimals` counts them.
        mos: (N,) float64, MOS of the response's video; NaN for a video of a chain, which has none.
        group_index: (N,) int64, the response's video: an index into the arrays of `videos`.
        video_ids: the name of the response's video.
        data_sources: data set of the response's video; None where the caller named none.
        perturbations: how the video's frames were perturbed; None for a response to the original video.
        videos: per video (V,) the MOS, the mean and the variance of these responses' scores, and the data source.
    """

    responses: tuple[str, ...] = field(repr=False)
    pred_mos: FloatArray
    decimals: FloatArray
    mos: FloatArray
    group_index: IntArray
    video_ids: tuple[Hashable, ...]
    data_sources: tuple[Hashable, ...]
    perturbations: tuple[str | None, ...]
    videos: Videos

    def __post_init__(self) -> None:
        make_read_only(self)

    def __len__(self) -> int:
        return len(self.responses)


@dataclass(frozen=True, eq=False, kw_only=True)
class RewardInputs(Responses):
    """The responses of a batch to its original videos, and those to the perturbed copies.

    Attributes:
        perturbed: the M responses to perturbed copies, M may be 0. Its `group_index` counts the same videos; its
            `videos` has the means and variances of the perturbed responses' scores.
    """

    perturbed: Responses = field(repr=False)


def make_inputs(
    responses: Sequence[str],
    mos: ArrayLike,
    group_ids: GroupIds,
    *,
    parse: Callable[[str], ParsedAnswer],
    perturbed_responses: Sequence[str] | None = None,
    perturbed_group_ids: GroupIds | None = None,
    perturbations: Sequence[str | None] | None = None,
    data_sources: GroupIds | None = None,
    video_ids: Sequence[Hashable] | None = None,
    cross_dataset: bool = False,
    chains: Sequence[str | None] | None = None,
    strengths: ArrayLike | None = None,
) -> RewardInputs:
    """Return the batch that reward functions get, parsed and checked.

    The arguments and errors are those of `score_batch`. `parse` reads a response's score. With `cross_dataset`, all
    videos are of one scale, and `videos.source` is 0 for all.
    """
    scores, decimals = _parsed("responses", responses, parse)
    index, videos = batch_videos(scores, mos, group_ids, None if cross_dataset else data_sources, chains, strengths)
    count = len(scores)

    texts = perturbed_responses if perturbed_responses is not None else ()
    p_scores, p_decimals = _parsed("perturbed_responses", texts, parse)
    if len(p_scores) and perturbed_group_ids is None:
        raise ValueError("perturbed_group_ids: missing; each perturbed response needs the id of its video's group")
    p_ids = perturbed_group_ids if perturbed_group_ids is not None else ()
    p_index = index_among("perturbed_group_ids", p_ids, videos.ids, len(p_scores))

    names = _labels("video_ids", video_ids if video_ids is not None else group_ids, count)
    sources = _labels("data_sources", data_sources, count)
    first = np.zeros(len(videos), dtype=np.int64)  # a response of each video, which knows the video's name and source
    first[index] = np.arange(count)
    return RewardInputs(
        responses=tuple(responses),
        pred_mos=scores,
        decimals=decimals,
        mos=videos.mos[index],
        group_index=index,
        video_ids=names,
        data_sources=sources,
        perturbations=(None,) * count,
        videos=videos,
        perturbed=Responses(
            responses=tuple(texts),
            pred_mos=p_scores,
            decimals=p_decimals,
            mos=videos.mos[p_index],
            group_index=p_index,
            video_ids=tuple(names[row] for row in first[p_index]),
            data_sources=tuple(sources[row] for row in first[p_index]),
            perturbations=_labels("perturbations", perturbations, len(p_scores)),  # type: ignore[arg-type]
            videos=replace(
                videos,
                mean=group_mean(p_scores, p_index, len(videos)),
                variance=group_variance(p_scores, p_index, len(videos)),
            ),
        ),
    )


def _parsed(name: str, responses: Sequence[str], parse: Callable[[str], ParsedAnswer]) -> tuple[FloatArray, FloatArray]:
    """Return scores and decimals, each (N,)."""
    if isinstance(responses, str):
        raise TypeError(f"{name}: expected a sequence of strings, got one string")
    answers = [parse(response) for response in responses]
    return (
        np.array([answer.score for answer in answers], dtype=np.float64),
        np.array([answer.decimals for answer in answers], dtype=np.float64),
    )


def _labels(name: str, labels: GroupIds | None, length: int) -> tuple[Hashable, ...]:
    if labels is None:
        return (None,) * length
    values = tuple(labels.tolist() if isinstance(labels, np.ndarray) else labels)
    if len(values) != length:
        raise ValueError(f"{name}: expected {length} values, one per response, got {len(values)}")
    return values
