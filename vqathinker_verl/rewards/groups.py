"""Groups: all responses to one video, identified by an id that the caller passes."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vqathinker_verl.checks import FloatArray, IntArray, as_vector, make_read_only

GroupIds = Sequence[Hashable] | NDArray[Any]


def label_index(name: str, labels: GroupIds, length: int) -> tuple[IntArray, list[Hashable]]:
    """Return, for each of the `length` labels, the index of its value, and the distinct values by first appearance.

    Any hashable value serves as a label, so strings and numbers may be mixed. Missing ones (None, NaN) are refused:
    membership is passed explicitly, never guessed.

    Raises:
        ValueError: for another number of labels, or a missing one, with its position.
    """
    values = labels.tolist() if isinstance(labels, np.ndarray) else list(labels)
    if len(values) != length:
        raise ValueError(f"{name}: expected {length} values, one per response, got {len(values)}")
    position_of: dict[Hashable, int] = {}
    index = np.fromiter((position_of.setdefault(value, len(position_of)) for value in values), np.int64, length)
    for value, position in position_of.items():
        if value is None or value != value:
            raise ValueError(
                f"{name}[{int(np.argmax(index == position))}]: missing ({value}); every response needs one"
            )
    return index, list(position_of)


def index_among(name: str, labels: GroupIds, ids: Sequence[Hashable], length: int) -> IntArray:
    """Return the index in `ids` of each of the `length` labels.

    Raises:
        ValueError: for another number of labels, or one that is missing or not among `ids`.
    """
    index, values = label_index(name, labels, length)
    position_of = {value: position for position, value in enumerate(ids)}
    unknown = [value for value in values if value not in position_of]
    if unknown:
        raise ValueError(f"{name}: {unknown[0]!r} is not among group_ids; it must name a video of the batch")
    positions = np.array([position_of[value] for value in values], dtype=np.int64)
    return positions[index] if length else index


def constant_in_group(name: str, values: NDArray[Any], index: IntArray, ids: Sequence[Hashable]) -> NDArray[Any]:
    """Return the one value of each group (V,), from one value per response (N,).

    Raises:
        ValueError: if the responses of a group do not agree, naming the group and two of its values.
    """
    per_group = np.empty(len(ids), dtype=values.dtype)
    per_group[index] = values
    differs = values != per_group[index]
    if differs.any():
        first = int(np.argmax(differs))
        group = int(index[first])
        raise ValueError(
            f"{name}: the responses of group {ids[group]!r} disagree ({values[first]} and {per_group[group]}); "
            "a group is all responses to one video"
        )
    return per_group


def group_mean(values: FloatArray, index: IntArray, num_groups: int) -> FloatArray:
    """Return the mean of each group's values (V,), leaving out NaN; NaN for a group that has none."""
    present = ~np.isnan(values)
    counts = np.bincount(index[present], minlength=num_groups)
    sums = np.bincount(index[present], weights=values[present], minlength=num_groups)
    mean: FloatArray = np.divide(sums, counts, out=np.full(num_groups, np.nan), where=counts > 0)
    return mean


def group_variance(values: FloatArray, index: IntArray, num_groups: int) -> FloatArray:
    """Return the unbiased variance of each group's values (V,), leaving out NaN; 0 with fewer than two values."""
    present = ~np.isnan(values)
    counts = np.bincount(index[present], minlength=num_groups)
    deviation = values - group_mean(values, index, num_groups)[index]
    with np.errstate(over="ignore"):  # scores without a range check: their variance may be infinite
        squares = np.bincount(index[present], weights=deviation[present] ** 2, minlength=num_groups)
    variance: FloatArray = np.divide(squares, counts - 1, out=np.zeros(num_groups), where=counts > 1)
    return variance


@dataclass(frozen=True, eq=False)
class Videos:
    """The videos of a batch, as their groups of responses describe them; read-only arrays of shape (V,).

    Attributes:
        ids: the group id of each video, in the order in which they first occur.
        mos: its MOS; NaN for a video of a chain.
        source: index of its data source, or of its chain; only videos of equal index are compared.
        order: what a better video has more of: its MOS, or less its strength for a video of a chain.
        chained: whether it is of a chain (docs/generalization.md).
        mean: mean score of its responses; NaN if none has a score.
        variance: unbiased variance of these scores; 0 with fewer than two.
    """

    ids: Sequence[Hashable]
    mos: FloatArray
    source: IntArray
    mean: FloatArray
    variance: FloatArray
    order: FloatArray
    chained: NDArray[np.bool_]

    def __post_init__(self) -> None:
        make_read_only(self)

    def __len__(self) -> int:
        return len(self.ids)


def batch_videos(
    scores: FloatArray,
    mos: ArrayLike,
    group_ids: GroupIds,
    data_sources: GroupIds | None,
    chains: Sequence[str | None] | None = None,
    strengths: ArrayLike | None = None,
) -> tuple[IntArray, Videos]:
    """Return the index of each response's video (N,), and the videos.

    Raises:
        ValueError: as `score_batch`.
    """
    index, ids = label_index("group_ids", group_ids, len(scores))
    sources = np.zeros(len(scores), dtype=np.int64)
    if data_sources is not None:
        sources, _ = label_index("data_sources", data_sources, len(scores))
    chain, strength = _chains(chains, strengths, len(scores))
    chained = chain >= 0
    labels = as_vector("mos", mos, length=len(scores), nan_allowed=bool(chained.any()))
    labels = as_vector("mos", np.where(chained, 0.0, labels))
    video_mos = constant_in_group("mos", labels, index, ids)
    video_source = constant_in_group("data_sources", sources, index, ids)
    video_chain = constant_in_group("chains", chain, index, ids)
    video_strength = constant_in_group("strengths", strength, index, ids)
    of_chain = video_chain >= 0
    mean = group_mean(scores, index, len(ids))
    return index, Videos(
        ids=tuple(ids),
        mos=np.where(of_chain, np.nan, video_mos),
        source=np.where(of_chain, int(sources.max(initial=0)) + 1 + video_chain, video_source),
        mean=mean,
        variance=group_variance(scores, index, len(ids)),
        order=np.where(of_chain, -video_strength, video_mos),
        chained=of_chain,
    )


def _chains(
    chains: Sequence[str | None] | None, strengths: ArrayLike | None, length: int
) -> tuple[IntArray, FloatArray]:
    """Return the number of each response's chain (N,), -1 for none, and its strength (N,), 0 for none."""
    if chains is None:
        return np.full(length, -1), np.zeros(length)
    if len(chains) != length:
        raise ValueError(f"chains: expected {length} values, one per response, got {len(chains)}")
    numbers = {name: number for number, name in enumerate(dict.fromkeys(name for name in chains if name is not None))}
    chain = np.array([-1 if name is None else numbers[name] for name in chains], dtype=np.int64)
    if not numbers:
        return chain, np.zeros(length)
    if strengths is None:
        raise ValueError("strengths: missing; each response to a video of a chain needs its strength")
    strength = as_vector("strengths", strengths, length=length, nan_allowed=True)
    lacking = (chain >= 0) & np.isnan(strength)
    if lacking.any():
        raise ValueError(f"strengths[{int(np.argmax(lacking))}]: expected a number for a video of a chain, got NaN")
    return chain, np.where(chain >= 0, strength, 0.0)
