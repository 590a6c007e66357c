"""Everything that one call of `vqathinker evaluate` found: what all outputs are made of."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vqathinker_verl import __version__
from vqathinker_verl.evaluation.compare import Comparison, Difference
from vqathinker_verl.evaluation.reference import published
from vqathinker_verl.evaluation.results import BenchmarkResult, Mean, ModelResult, Settings
from vqathinker_verl.metrics.evaluate import Estimate

TITLES = {
    "srcc": "SRCC",
    "krcc": "KRCC",
    "plcc": "PLCC",
    "rmse": "RMSE",
    "plcc_raw": "PLCC raw",
    "rmse_raw": "RMSE raw",
    "pair_accuracy": "2AFC",
}


@dataclass(frozen=True)
class Outcome:
    """The evaluated models (one or two), on the same benchmarks, and their comparison."""

    models: Sequence[ModelResult]
    settings: Settings
    comparison: Comparison | None = None

    @property
    def faults(self) -> list[str]:
        """What a reader must not overlook, one sentence each: videos without an answer or a label, missing metrics."""
        faults = []
        for model in self.models:
            for result in model.benchmarks:
                where = f"{model.name}, {result.name}"
                faults += _missing(where, result)
                faults += [f"{where}: no {', '.join(names)}: {reason}" for reason, names in _reasons(result).items()]
            if model.unlabelled:
                faults.append(f"{model.name}: {_count(model.unlabelled)} without a label: {_first(model.unlabelled)}")
        return faults

    @property
    def notes(self) -> list[str]:
        """What belongs beside the metrics, one sentence each."""
        of_models = [f"{model.name}: {note}" for model in self.models for note in model.notes]
        return of_models + [
            f"{model.name}, {result.name}: {note}"
            for model in self.models
            for result in model.benchmarks
            for note in result.notes
        ]


def as_json(outcome: Outcome) -> dict[str, Any]:
    """Return the outcome for json.dumps; a metric that does not exist is null and has its reason in `undefined`."""
    settings = outcome.settings
    table = published()
    return {
        "version": __version__,
        "settings": {
            "unscored": settings.unscored,
            "num_resamples": settings.num_resamples,
            "confidence": settings.confidence,
            "seed": settings.seed,
            "min_gap": settings.min_gap,
        },
        "models": [_model(model) for model in outcome.models],
        "comparison": None if outcome.comparison is None else _comparison(outcome.comparison),
        "faults": outcome.faults,
        "notes": outcome.notes,
        "published": {
            "source": table.source,
            "num_videos": dict(table.num_videos),
            "models": {
                model.name: {name: [_null(value) for value in pair] for name, pair in model.srcc_plcc.items()}
                for model in table.models
            },
            "not_comparable": {model.name: model.not_comparable for model in table.models if model.not_comparable},
        },
    }


def _model(model: ModelResult) -> dict[str, Any]:
    return {
        "name": model.name,
        "files": list(model.files),
        "benchmarks": [_benchmark(result) for result in model.benchmarks],
        "mean": _mean(model.plain),
        "mean_weighted_by_videos": _mean(model.weighted),
        "unlabelled": [prediction.video_id for prediction in model.unlabelled],
    }


def _benchmark(result: BenchmarkResult) -> dict[str, Any]:
    return {
        "name": result.name,
        "num_videos": result.num_videos,
        "num_scored": result.num_scored,
        "num_unscored": result.num_unscored,
        "num_answers": result.answers[0],
        "num_answers_unscored": result.answers[1],
        "unscored_share": _null(result.unscored_share),
        "num_missing": result.num_missing,
        "num_failed": result.num_failed,
        "num_pairs": result.num_pairs,
        "missing": [label.video_id for label in missing_labels(result)],
        "metrics": _metrics(result.metrics),
        "undefined": dict(result.undefined),
        "fit": {
            "lower": _null(result.fit.lower),
            "upper": _null(result.fit.upper),
            "centre": _null(result.fit.centre),
            "scale": _null(result.fit.scale),
            "converged": result.fit.converged,
        },
        "notes": list(result.notes),
    }


def _mean(mean: Mean) -> dict[str, Any]:
    return {"metrics": _metrics(mean.metrics), "undefined": dict(mean.undefined)}


def _comparison(comparison: Comparison) -> dict[str, Any]:
    return {
        "first": comparison.first,
        "second": comparison.second,
        "benchmarks": [
            {
                "name": benchmark.name,
                "num_videos": benchmark.num_videos,
                "num_left_out": benchmark.num_left_out,
                "differences": _differences(benchmark.differences),
                "williams": {"t": _null(benchmark.williams_t), "p": _null(benchmark.williams_p)},
            }
            for benchmark in comparison.benchmarks
        ],
        "mean": _differences(comparison.mean),
    }


def _differences(differences: Mapping[str, Difference]) -> dict[str, Any]:
    return {name: {**_metric(found.metric), "p": _null(found.p_value)} for name, found in differences.items()}


def _metrics(metrics: Mapping[str, Estimate]) -> dict[str, Any]:
    return {name: _metric(metric) for name, metric in metrics.items()}


def _metric(metric: Estimate) -> dict[str, float | None]:
    return {"value": _null(metric.value), "low": _null(metric.low), "high": _null(metric.high)}


def _null(value: float) -> float | None:
    return None if math.isnan(value) else value


def missing_labels(result: BenchmarkResult) -> list[Any]:
    """The labels without an answer, whether nothing was predicted or the video failed."""
    return [
        label
        for label, prediction in zip(result.benchmark.labels, result.predictions, strict=True)
        if prediction is None or (prediction.error is not None and not prediction.scored)
    ]


def _missing(where: str, result: BenchmarkResult) -> list[str]:
    absent = [label for label, found in zip(result.benchmark.labels, result.predictions, strict=True) if found is None]
    failed = [found for found in result.predictions if found is not None and not found.scored and found.error]
    sentences = []
    if absent:
        sentences.append(
            f"{where}: {len(absent)} of {result.num_videos} labelled videos have no prediction: {_first(absent)}"
        )
    if failed:
        sentences.append(
            f"{where}: {len(failed)} of {result.num_videos} videos failed: {failed[0].video_id} ({failed[0].error})"
        )
    return sentences


def _reasons(result: BenchmarkResult) -> dict[str, list[str]]:
    """The metrics that do not exist, by the reason that they share."""
    reasons: dict[str, list[str]] = {}
    for name, reason in result.undefined.items():
        reasons.setdefault(reason, []).append(TITLES[name])
    return reasons


def _first(entries: Sequence[Any], shown: int = 3) -> str:
    names = ", ".join(entry.video_id for entry in entries[:shown])
    return names + (", …" if len(entries) > shown else "")


def _count(predictions: Sequence[Any]) -> str:
    return "1 prediction" if len(predictions) == 1 else f"{len(predictions)} predictions"
