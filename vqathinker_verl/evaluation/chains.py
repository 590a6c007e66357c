"""Chains of known order (docs/generalization.md): how often a model puts two clips of one chain in the right order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vqathinker_verl.checks import FloatArray, IntArray
from vqathinker_verl.evaluation.records import Benchmark, Prediction
from vqathinker_verl.metrics.bootstrap import percentile_bounds
from vqathinker_verl.metrics.evaluate import Estimate
from vqathinker_verl.metrics.pairs import count_pairs_by_group


@dataclass(frozen=True)
class ChainAccuracy:
    """The accuracy over some chains.

    Attributes:
        accuracy: share of the pairs in the right order, a tie counting half; interval by bootstrap over chains.
        num_pairs: pairs of scored clips of one chain with different strengths.
        num_chains: chains with such a pair.
    """

    accuracy: Estimate
    num_pairs: int
    num_chains: int


@dataclass(frozen=True)
class ChainResult:
    """One model on one set of chains.

    Attributes:
        name: of the set.
        overall: over all chains.
        by_distortion: by the distortion, in the order of the labels.
        num_clips: labelled clips.
        num_scored: clips with a score.
        num_missing: clips without an answer.
    """

    name: str
    overall: ChainAccuracy
    by_distortion: Mapping[str, ChainAccuracy]
    num_clips: int
    num_scored: int
    num_missing: int

    def as_json(self) -> dict[str, Any]:
        """For json.dumps; an accuracy without pairs is null."""
        return {
            "name": self.name,
            "num_clips": self.num_clips,
            "num_scored": self.num_scored,
            "num_missing": self.num_missing,
            "chain_accuracy": _json(self.overall),
            "by_distortion": {name: _json(found) for name, found in self.by_distortion.items()},
        }


def evaluate_chains(
    benchmark: Benchmark,
    predictions: Sequence[Prediction | None],
    scores: FloatArray,
    *,
    num_resamples: int,
    confidence: float,
    seed: int,
) -> ChainResult:
    """Return the accuracies of one model on a benchmark whose labels are of chains.

    Args:
        benchmark: N labels.
        predictions: (N,) the prediction of each, or None.
        scores: (N,) the score of each, NaN for none.
        num_resamples: resamples of the chains for the intervals; 0: none.
        confidence: of the intervals.
        seed: of the resampling.
    """
    labels = benchmark.labels
    _, chains = np.unique([str(label.chain) for label in labels], return_inverse=True)
    order = -np.array([label.strength for label in labels], dtype=np.float64)
    distortions = [label.distortion for label in labels]

    def accuracy(members: IntArray) -> ChainAccuracy:
        right, pairs = count_pairs_by_group(scores[members], order[members], chains[members])
        return _accuracy(right[pairs > 0], pairs[pairs > 0], num_resamples, confidence, seed)

    by_distortion = {}
    for name in dict.fromkeys(distortions):
        members = np.flatnonzero([distortion == name for distortion in distortions])
        by_distortion[name] = accuracy(members)
    answered = [one for one in predictions if one is not None and (one.scored or one.error is None)]
    return ChainResult(
        benchmark.name,
        accuracy(np.arange(len(labels))),
        by_distortion,
        len(labels),
        sum(one.scored for one in answered),
        len(labels) - len(answered),
    )


def _accuracy(right: FloatArray, pairs: IntArray, num_resamples: int, confidence: float, seed: int) -> ChainAccuracy:
    num_chains = len(pairs)
    if not num_chains:
        return ChainAccuracy(Estimate(np.nan, np.nan, np.nan), 0, 0)
    low = high = np.nan
    if num_chains > 1 and num_resamples:
        rng = np.random.default_rng([seed, num_chains])
        drawn = rng.multinomial(num_chains, np.full(num_chains, 1 / num_chains), size=num_resamples)
        lows, highs = percentile_bounds(((drawn @ right) / (drawn @ pairs))[:, None], confidence)
        low, high = float(lows[0]), float(highs[0])
    return ChainAccuracy(Estimate(float(right.sum() / pairs.sum()), low, high), int(pairs.sum()), num_chains)


def _json(found: ChainAccuracy) -> dict[str, Any]:
    estimate = found.accuracy
    values = {"value": estimate.value, "low": estimate.low, "high": estimate.high}
    bounds = {name: None if np.isnan(value) else value for name, value in values.items()}
    return {**bounds, "num_pairs": found.num_pairs, "num_chains": found.num_chains}
