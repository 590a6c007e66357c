"""Is one model better than another on the same videos? Two paired tests.

The paired bootstrap resamples the videos and takes both models' metrics on each resample: the spread of their
difference is what chance in the choice of videos can do. It holds for every metric reported and for ties, and asks
nothing of the distribution of scores, so it is the one whose intervals are reported (B. Efron and R. J. Tibshirani, An
Introduction to the Bootstrap, 1993, chapters 15 and 16).

Williams' t (E. J. Williams, 1959; recommended by J. H. Steiger, Psychological Bulletin 87, 1980, over the test by
Hotelling) is the closed formula for two correlations that share a variable, here the MOS. On ranks it is an
approximation; it stands beside the bootstrap because it needs no seed and is not bounded by the number of resamples.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vqathinker_verl.checks import FloatArray
from vqathinker_verl.evaluation.records import EvaluationError
from vqathinker_verl.evaluation.results import BenchmarkResult, ModelResult, Settings, usable_scores
from vqathinker_verl.metrics import srcc
from vqathinker_verl.metrics.bootstrap import METRICS
from vqathinker_verl.metrics.evaluate import Estimate, with_intervals


@dataclass(frozen=True)
class Difference:
    """A metric of the first model less that of the second; its interval and two-sided p-value by the bootstrap."""

    metric: Estimate
    p_value: float


@dataclass(frozen=True)
class BenchmarkComparison:
    """Two models on the videos of one benchmark that both have a score for.

    Attributes:
        name: the benchmark.
        num_videos: videos compared.
        num_left_out: videos of the benchmark that either model has no score for.
        differences: by metric.
        williams_t: Williams' statistic for the SRCC, and its two-sided p-value.
        williams_p: see `williams_t`.
    """

    name: str
    num_videos: int
    num_left_out: int
    differences: Mapping[str, Difference]
    williams_t: float
    williams_p: float


@dataclass(frozen=True)
class Comparison:
    """Two models on all benchmarks; `mean` holds the differences of the plain means."""

    first: str
    second: str
    benchmarks: Sequence[BenchmarkComparison]
    mean: Mapping[str, Difference]


def compare_models(first: ModelResult, second: ModelResult, settings: Settings) -> Comparison:
    """Compare two models on the same videos.

    Raises:
        EvaluationError: they were not evaluated on the same benchmarks.
    """
    names = [result.name for result in first.benchmarks]
    if names != [result.name for result in second.benchmarks]:
        raise EvaluationError(f"{first.name} and {second.name} were not evaluated on the same benchmarks")
    compared, draws = [], []
    for one, other in zip(first.benchmarks, second.benchmarks, strict=True):
        benchmark, differing = _compare_benchmark(one, other, settings)
        compared.append(benchmark)
        draws.append(differing)
    mean_draws = np.mean(draws, axis=0)
    mean_values = {
        name: float(np.mean([benchmark.differences[name].metric.value for benchmark in compared])) for name in METRICS
    }
    return Comparison(first.name, second.name, compared, _differences(mean_values, mean_draws, settings))


def williams_test(
    correlation_first: float, correlation_second: float, correlation_between: float, num_videos: int
) -> tuple[float, float]:
    """Test whether two correlations with the same variable differ (Williams' t, N - 3 degrees of freedom).

    t = (r1 - r2) sqrt((N - 1)(1 + r12) / (2 D (N - 1) / (N - 3) + m^2 (1 - r12)^3)), where
    D = 1 - r1^2 - r2^2 - r12^2 + 2 r1 r2 r12 and m = (r1 + r2) / 2.

    Args:
        correlation_first: r1, of the first model with the MOS.
        correlation_second: r2, of the second model with the MOS.
        correlation_between: r12, of the two models.
        num_videos: N.

    Returns:
        t and the two-sided p-value; NaN for fewer than four videos or a correlation that is NaN.

    >>> t, p = williams_test(0.5, 0.4, 0.1, 103)
    >>> round(t, 2), round(p, 2)
    (0.89, 0.37)
    """
    from scipy.stats import t as student

    r1, r2, r12, n = correlation_first, correlation_second, correlation_between, num_videos
    if n < 4 or math.isnan(r1 + r2 + r12):
        return math.nan, math.nan
    if r1 == r2:
        return 0.0, 1.0
    determinant = max(0.0, 1 - r1**2 - r2**2 - r12**2 + 2 * r1 * r2 * r12)
    spread = 2 * determinant * (n - 1) / (n - 3) + ((r1 + r2) / 2) ** 2 * (1 - r12) ** 3
    if spread <= 0:
        return math.nan, math.nan
    t = (r1 - r2) * math.sqrt((n - 1) * (1 + r12) / spread)
    return t, float(2 * student.sf(abs(t), n - 3))


def bootstrap_p_value(draws: FloatArray) -> float:
    """Return the two-sided p-value of a difference from its bootstrap draws (B,), NaN without any.

    Twice the smaller share of draws on one side of 0, the difference itself counted as a draw, so that it is never 0.

    >>> bootstrap_p_value(np.array([0.1] * 99))
    0.02
    """
    draws = draws[~np.isnan(draws)]
    if not len(draws):
        return math.nan
    smaller = min(np.sum(draws <= 0), np.sum(draws >= 0)) + 1
    return float(min(1.0, 2 * smaller / (len(draws) + 1)))


def _compare_benchmark(
    one: BenchmarkResult, other: BenchmarkResult, settings: Settings
) -> tuple[BenchmarkComparison, FloatArray]:
    """The comparison, and the draws of the differences (B, 7)."""
    scores = [usable_scores(result.predictions, settings.unscored) for result in (one, other)]
    common = ~np.isnan(scores[0]) & ~np.isnan(scores[1])
    mos = np.array([label.mos for label in one.benchmark.labels])[common]
    preds = [score[common] for score in scores]
    # The same MOS and seed choose the same videos for both, so that row b of their draws is a pair.
    first, second = (settings.evaluate(pred, mos) for pred in preds)
    difference = {name: first.metrics[name].value - second.metrics[name].value for name in METRICS}
    draws = first.draws - second.draws
    t, p = williams_test(
        first.metrics["srcc"].value, second.metrics["srcc"].value, srcc(preds[0], preds[1]), int(common.sum())
    )
    comparison = BenchmarkComparison(
        one.name,
        int(common.sum()),
        len(common) - int(common.sum()),
        _differences(difference, draws, settings),
        t,
        p,
    )
    return comparison, draws


def _differences(values: Mapping[str, float], draws: FloatArray, settings: Settings) -> dict[str, Difference]:
    metrics = with_intervals(values, draws, settings.confidence)
    return {
        name: Difference(metric, math.nan if math.isnan(metric.value) else bootstrap_p_value(draws[:, column]))
        for column, (name, metric) in enumerate(metrics.items())
    }
