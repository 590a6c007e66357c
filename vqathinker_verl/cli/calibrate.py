"""`vqathinker calibrate`: a rising map from a model's scores to the level of a set of labels."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from vqathinker_verl import __version__
from vqathinker_verl.cli.faults import print_faults
from vqathinker_verl.cli.label_options import add_label_options, label_source
from vqathinker_verl.data.registry import load_registry
from vqathinker_verl.evaluation.benchmarks import match_some, read_benchmarks
from vqathinker_verl.evaluation.predictions import read_predictions
from vqathinker_verl.evaluation.records import Benchmark, EvaluationError, Prediction
from vqathinker_verl.files import check_writable, write_json
from vqathinker_verl.inference.calibration import parameters_as_json
from vqathinker_verl.metrics.calibration import FOLDS, RISE, Calibrated, calibrate
from vqathinker_verl.prompts import SCORE_RANGE

EXAMPLE = "vqathinker calibrate scores.jsonl --labels 50.csv --output calibration.json"
EXIT_CODES = """0: written; 1: written, but some labelled videos have no score (each is named)
2: nothing was written: the labels or the scores do not allow a calibration"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `vqathinker calibrate`."""
    parser.add_argument("predictions", type=Path, metavar="FILE", help="scores: JSONL of `vqathinker score`, or CSV or "
                        "TSV with video_id and pred_mos")  # fmt: skip
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="JSON file to write")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the folds of the cross-validation")
    labels = parser.add_argument_group("labels")
    labels.add_argument("--labels", type=Path, nargs="+", required=True, metavar="FILE",
                        help="parquet of `vqathinker prepare`, or label files that it reads")  # fmt: skip
    add_label_options(labels)
    labels.add_argument("--ignore-suffix", action="store_true",
                        help="match scores and labels that differ in the video's suffix only")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Calibrate; 0 written, 1 written though labelled videos have no score, 2 not written."""
    try:
        return _calibrate(args)
    except ValueError as error:
        print(f"vqathinker calibrate: {error}", file=sys.stderr)
        return 2


def _calibrate(args: argparse.Namespace) -> int:
    if args.seed < 0:
        raise EvaluationError(f"--seed: expected at least 0, got {args.seed}")
    check_writable(args.output)
    if not args.predictions.is_file():
        raise EvaluationError(f"{args.predictions}: no such file; expected predictions")
    predictions = read_predictions(args.predictions)
    calibrated = next((one for one in predictions if one.pred_mos_raw is not None), None)
    if calibrated is not None:
        raise EvaluationError(
            f"{args.predictions}: {calibrated.video_id} has a calibrated score already; score without --calibration"
        )
    benchmarks = read_benchmarks([label_source(args, path) for path in args.labels], load_registry(args.registry))
    matched, _ = match_some(predictions, benchmarks, where=str(args.predictions), ignore_suffix=args.ignore_suffix)
    scores, mos, without = _pairs(benchmarks, matched)
    found = calibrate(scores, mos, seed=args.seed)
    made_with = _made_with(args.predictions)
    write_json(args.output, _as_json(found, benchmarks, args, made_with))
    _report(found, args.output)
    if made_with is None:
        print(
            f"vqathinker calibrate: warning: no {args.predictions.name}.settings.json beside the predictions, so the "
            "calibration does not say of which model it is",
            file=sys.stderr,
        )
    print_faults("labelled videos without a score, left out", without)
    return 1 if without else 0


def _pairs(
    benchmarks: list[Benchmark], matched: dict[str, list[Prediction | None]]
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Scores (N,) and MOS (N,) of the labelled videos that have both, and the names of the others."""
    scores, mos, without = [], [], []
    for benchmark in benchmarks:
        for label, prediction in zip(benchmark.labels, matched[benchmark.name], strict=True):
            if prediction is None or not prediction.scored:
                without.append(label.video_id)
            else:
                scores.append(prediction.pred_mos)
                mos.append(label.mos)
    return np.array(scores, dtype=np.float64), np.array(mos, dtype=np.float64), without


def _made_with(predictions: Path) -> dict[str, Any] | None:
    """The settings that `vqathinker score` keeps beside its predictions, or None."""
    path = predictions.with_name(predictions.name + ".settings.json")
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise EvaluationError(f"{path}: expected JSON, as `vqathinker score` writes it ({error})") from error
    if not isinstance(settings, dict):
        raise EvaluationError(f"{path}: expected a JSON object, as `vqathinker score` writes it")
    return settings


def _as_json(
    found: Calibrated, benchmarks: list[Benchmark], args: argparse.Namespace, made_with: dict[str, Any] | None
) -> dict[str, Any]:
    return {
        "version": __version__,
        "kind": found.map.kind,
        "parameters": parameters_as_json(found.map),
        "rise": RISE,
        "num_videos": found.num_videos,
        "srcc": found.srcc,
        "cross_validation": {
            "folds": FOLDS,
            "seed": args.seed,
            "rmse_before": found.rmse_before,
            "rmse_after": found.rmse_after,
            "rmse_by_kind": {kind: None if np.isnan(rmse) else rmse for kind, rmse in found.rmse_by_kind.items()},
        },
        "labels": {
            "files": [path.name for path in args.labels],
            "benchmarks": [benchmark.name for benchmark in benchmarks],
            "scale": args.scale,
            "mapped_to": list(SCORE_RANGE),
        },
        "made_with": made_with,
    }


def _report(found: Calibrated, output: Path) -> None:
    kinds = ", ".join(
        f"{kind} {'no fit' if np.isnan(rmse) else f'{rmse:.3f}'}" for kind, rmse in found.rmse_by_kind.items()
    )
    print(f"{output}: {found.map.kind} map of {found.num_videos} labelled videos")
    print(f"RMSE on videos left out of the fit: {found.rmse_before:.3f} before, {found.rmse_after:.3f} after ({kinds})")
    print(f"SRCC {found.srcc:.3f}, which the map does not change")
