"""The metrics of one model: per benchmark, and the means over benchmarks."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from vqathinker_verl.checks import FloatArray
from vqathinker_verl.evaluation.records import Benchmark, Prediction
from vqathinker_verl.metrics import LogisticFit
from vqathinker_verl.metrics.bootstrap import METRICS
from vqathinker_verl.metrics.evaluate import Estimate, Evaluation, evaluate_scores, with_intervals
from vqathinker_verl.metrics.logistic import MIN_VIDEOS_TO_FIT

AFTER_FIT = ("plcc", "rmse")
# SRCC below which a note says that the predictions run the wrong way.
AGAINST_MOS = -0.1


@dataclass(frozen=True)
class Settings:
    """How metrics are made.

    Attributes:
        unscored: the score that answers without one are given; None leaves them out (they are counted either way).
        num_resamples: bootstrap resamples for the intervals and the tests; 0: no intervals.
        confidence: the intervals' confidence.
        seed: seed of the resampling.
        min_gap: smallest difference in MOS of the pairs that the accuracy of pairs is about.
    """

    unscored: float | None = None
    num_resamples: int = 1000
    confidence: float = 0.95
    seed: int = 0
    min_gap: float = 0.0

    def evaluate(self, pred: FloatArray, mos: FloatArray) -> Evaluation:
        """Return the metrics of predictions (N,) and MOS (N,), as `metrics.evaluate_predictions` makes them."""
        return evaluate_scores(
            pred, mos, num_resamples=self.num_resamples, confidence=self.confidence, seed=self.seed,
            min_gap=self.min_gap,
        )  # fmt: skip


@dataclass(frozen=True)
class BenchmarkResult:
    """One model on one benchmark; `num_videos` = `num_scored` + `num_unscored` + `num_missing`.

    Attributes:
        benchmark: the labels.
        predictions: for each label its prediction, or None.
        num_scored: videos with a score.
        num_unscored: videos with answers of which none has a score.
        num_missing: labelled videos without an answer; `num_failed` of them have an error in its place.
        pred: (N,) the predictions that the metrics are about; they belong to the labels `used` (N,).
        mos: (N,) their MOS.
        metrics: METRICS by name.
        fit: the logistic from predictions to MOS.
        draws: (num_resamples, 7) the metrics of the bootstrap resamples.
        num_pairs: pairs of videos that the accuracy of pairs is about.
        undefined: why a metric is NaN, by its name.
        notes: what else a reader must know.
    """

    benchmark: Benchmark
    predictions: Sequence[Prediction | None]
    num_scored: int
    num_unscored: int
    num_missing: int
    num_failed: int
    used: np.ndarray
    pred: FloatArray
    mos: FloatArray
    metrics: Mapping[str, Estimate]
    fit: LogisticFit
    draws: FloatArray
    num_pairs: int
    undefined: Mapping[str, str]
    notes: Sequence[str]

    @property
    def name(self) -> str:
        """The benchmark's name."""
        return self.benchmark.name

    @property
    def num_videos(self) -> int:
        """Labelled videos."""
        return len(self.benchmark.labels)

    @property
    def unscored_share(self) -> float:
        """Share of the answers without a score; NaN without any answer."""
        answers, unscored = self.answers
        return unscored / answers if answers else math.nan

    @property
    def answers(self) -> tuple[int, int]:
        """Number of answers, of which a video may have several, and of those without a score."""
        given = [p.answers for p in self.predictions if p is not None and (p.scored or p.error is None)]
        return sum(number for number, _ in given), sum(unscored for _, unscored in given)


@dataclass(frozen=True)
class Mean:
    """Means over all benchmarks; a benchmark without a metric leaves its mean undefined, never quietly out."""

    metrics: Mapping[str, Estimate]
    undefined: Mapping[str, str]


@dataclass(frozen=True)
class ModelResult:
    """One model on all benchmarks; `notes` say what a reader must know of its scores, such as a calibration."""

    name: str
    files: Sequence[str]
    benchmarks: Sequence[BenchmarkResult]
    plain: Mean
    weighted: Mean
    unlabelled: Sequence[Prediction] = field(default=())
    notes: Sequence[str] = field(default=())


def evaluate_model(
    name: str,
    benchmarks: Sequence[Benchmark],
    matched: Mapping[str, Sequence[Prediction | None]],
    settings: Settings,
    *,
    files: Sequence[str] = (),
    unlabelled: Sequence[Prediction] = (),
    notes: Sequence[str] = (),
) -> ModelResult:
    """Return all metrics of one model; `matched` is what `benchmarks.match` found for it."""
    results = [evaluate_benchmark(benchmark, matched[benchmark.name], settings) for benchmark in benchmarks]
    return ModelResult(
        name,
        files,
        results,
        mean_over(results, [1.0] * len(results), settings),
        mean_over(results, [float(result.num_videos) for result in results], settings),
        unlabelled,
        notes,
    )


def usable_scores(predictions: Sequence[Prediction | None], unscored: float | None) -> FloatArray:
    """The score of each label's prediction (N,), NaN where there is none.

    `unscored` stands in for an answer without a score. A video without an answer is given nothing: a file that could
    not be read says nothing about the model.
    """
    scores = np.full(len(predictions), np.nan)
    for number, prediction in enumerate(predictions):
        if prediction is None or (prediction.error is not None and not prediction.scored):
            continue
        scores[number] = prediction.pred_mos if prediction.scored or unscored is None else unscored
    return scores


def evaluate_benchmark(
    benchmark: Benchmark, predictions: Sequence[Prediction | None], settings: Settings
) -> BenchmarkResult:
    """Return all metrics of one model on one benchmark, with the reasons of those that do not exist."""
    failed = sum(p is not None and not p.scored and p.error is not None for p in predictions)
    missing = sum(p is None for p in predictions) + failed
    scored = sum(p is not None and p.scored for p in predictions)
    scores = usable_scores(predictions, settings.unscored)
    used = np.flatnonzero(~np.isnan(scores))
    pred = scores[used]
    mos = np.array([label.mos for label in benchmark.labels], dtype=np.float64)[used]

    found = settings.evaluate(pred, mos)
    values = {name: metric.value for name, metric in found.metrics.items()}
    unscored = len(predictions) - missing - scored
    return BenchmarkResult(
        benchmark=benchmark,
        predictions=predictions,
        num_scored=scored,
        num_unscored=unscored,
        num_missing=missing,
        num_failed=failed,
        used=used,
        pred=pred,
        mos=mos,
        metrics=found.metrics,
        fit=found.fit,
        draws=found.draws,
        num_pairs=found.num_pairs,
        undefined={
            name: _reason(name, pred, mos, found.fit, settings) for name, value in values.items() if math.isnan(value)
        },
        notes=_notes(values, len(pred), unscored, settings),
    )


def mean_over(results: Sequence[BenchmarkResult], weights: Sequence[float], settings: Settings) -> Mean:
    """Return the metrics' means over benchmarks, with intervals: each benchmark is resampled on its own."""
    shares = np.array(weights) / sum(weights)
    values = {
        name: float(sum(share * result.metrics[name].value for share, result in zip(shares, results, strict=True)))
        for name in METRICS
    }
    draws = np.einsum("k,kbf->bf", shares, np.stack([result.draws for result in results]))
    undefined = {
        name: "undefined for " + ", ".join(result.name for result in results if name in result.undefined)
        for name in METRICS
        if math.isnan(values[name])
    }
    return Mean(with_intervals(values, draws, settings.confidence), undefined)


def _reason(name: str, pred: FloatArray, mos: FloatArray, fit: LogisticFit, settings: Settings) -> str:
    """Why a metric does not exist."""
    if len(pred) == 0:
        return "no video has a score"
    if len(pred) == 1:
        return "only one video has a score"
    if name == "pair_accuracy" and settings.min_gap > 0:
        return f"no two of the {len(mos)} MOS differ by {settings.min_gap:g} or more"
    if np.all(pred == pred[0]):
        return f"all {len(pred)} predictions are {pred[0]:g}"
    if np.all(mos == mos[0]):
        return f"all {len(mos)} MOS are {mos[0]:g}"
    if name in AFTER_FIT and len(pred) < MIN_VIDEOS_TO_FIT:
        return f"{len(pred)} videos; a curve of four parameters needs at least {MIN_VIDEOS_TO_FIT}"
    if fit.converged:
        return "the logistic fit came out flat; the raw PLCC stands"
    return "the logistic fit did not converge; the raw metric stands"


def _notes(values: Mapping[str, float], num_used: int, num_unscored: int, settings: Settings) -> list[str]:
    notes = []
    if num_used < MIN_VIDEOS_TO_FIT:
        notes.append(f"only {num_used} videos have a score: no intervals, and the metrics mean little")
    if values["srcc"] < AGAINST_MOS:
        notes.append(f"predictions run against the MOS (SRCC {values['srcc']:.3f}); the fit does not turn them over")
    if num_unscored and settings.unscored is not None:
        notes.append(f"{num_unscored} answers without a score count as {settings.unscored:g}")
    return notes
