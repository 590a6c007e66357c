"""`vqathinker evaluate`: predictions against labels, as tables, files and a page to read."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vqathinker_verl.cli.label_options import add_label_options, label_source
from vqathinker_verl.data.registry import load_registry
from vqathinker_verl.data.sources import LabelSource, read_sets
from vqathinker_verl.evaluation.asking import ask_model, labelled_videos
from vqathinker_verl.evaluation.benchmarks import (
    labels_of_predictions,
    match_some,
    read_benchmarks,
    suffix_hint,
    with_videos_under,
)
from vqathinker_verl.evaluation.compare import compare_models
from vqathinker_verl.evaluation.outcome import Outcome, as_json
from vqathinker_verl.evaluation.predictions import read_predictions
from vqathinker_verl.evaluation.records import Benchmark, EvaluationError, Prediction
from vqathinker_verl.evaluation.reference import published
from vqathinker_verl.evaluation.report import write_html
from vqathinker_verl.evaluation.results import ModelResult, Settings, evaluate_model
from vqathinker_verl.evaluation.tables import as_csv, as_latex, paper_table, terminal_tables
from vqathinker_verl.files import check_writable, write_atomically, write_text
from vqathinker_verl.inference.engines import EngineError
from vqathinker_verl.inference.options import (
    add_calibration_option,
    add_engine_options,
    add_question_options,
    asking_from,
)
from vqathinker_verl.prompts import SCORE_RANGE

# Columns that the tables need where the terminal does not say its own width.
PIPE_COLUMNS = 140

EXAMPLE = "vqathinker evaluate --model outputs/model --labels val.parquet --num-samples 8 --output-dir report"
EXIT_CODES = """0: done; 1: done, but videos have no prediction or no label, or a metric does not exist (each is named)
2: nothing could be done"""


def conmetric(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `vqathinker evaluate`."""
    predictions = parser.add_argument_group("predictions")
    predictions.add_argument(
        "predictions",
        nargs="*",
        metavar="[BENCHMARK=]FILE",
        help="JSONL of `vqathinker score`, CSV or TSV with video_id and pred_mos, or verl's validation dump",
    )
    predictions.add_argument(
        "--name", metavar="NAME", help="the model's name in the tables (default: the first file's)"
    )
    predictions.add_argument(
        "--baseline", nargs="+", default=[], metavar="[BENCHMARK=]FILE", help="predictions of a second model, compared"
    )
    predictions.add_argument(
        "--baseline-name", metavar="NAME", help="the second model's name (default: its first file's)"
    )

    add_engine_options(parser, model_required=False)
    add_question_options(parser)
    add_calibration_option(parser)

    labels = parser.add_argument_group("labels")
    labels.add_argument(
        "--labels",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="parquet of `vqathinker prepare`, or label files that it reads (default: the mos beside the predictions)",
    )
    labels.add_argument(
        "--label-sets", type=Path, metavar="FILE", help="JSON list of label sets, as of `prepare`, for all that follows"
    )
    add_label_options(labels)
    labels.add_argument(
        "--ignore-suffix",
        action="store_true",
        help="match predictions and labels that differ in the video's suffix only, such as a.mp4, a.yuv and a",
    )

    metrics = parser.add_argument_group("metrics")
    metrics.add_argument(
        "--missing-score",
        default="exclude",
        metavar="exclude|middle|SCORE",
        help="answers without a score: left out, or counted as this; 3.0 repeats the released code",
    )
    metrics.add_argument("--raw-plcc", action="store_true", help="PLCC without the logistic fit in the paper's table")
    metrics.add_argument(
        "--min-gap",
        type=float,
        default=0.0,
        metavar="MOS",
        help="2AFC, the accuracy of pairs, counts the pairs whose MOS differ by at least this much on the scale from "
        "1 to 5 (default: 0, all pairs with different MOS)",
    )
    metrics.add_argument("--bootstrap-samples", type=int, default=1000, metavar="N", help="bootstrap resamples")
    metrics.add_argument("--confidence", type=float, default=0.95, metavar="SHARE", help="confidence of the intervals")
    metrics.add_argument("--bootstrap-seed", type=int, default=0, metavar="N", help="seed of the bootstrap")

    output = parser.add_argument_group("output")
    output.add_argument(
        "--output-dir",
        type=Path,
        metavar="DIR",
        help="write evaluation.json, evaluation.csv, table.tex and report.html here",
    )
    output.add_argument("--num-worst", type=int, default=6, metavar="N", help="largest errors in the report")


def run(args: argparse.Namespace) -> int:
    """Evaluate; 0 done, 1 done with faults that were reported, 2 not done."""
    try:
        outcome = evaluate(args)
        if args.output_dir is not None:
            write_outputs(outcome, args.output_dir, num_worst=args.num_worst, raw_plcc=args.raw_plcc)
    except (ValueError, EngineError) as error:
        print(f"vqathinker evaluate: {error}", file=sys.stderr)
        return 2
    _print(outcome, args)
    return 1 if outcome.faults else 0


def evaluate(args: argparse.Namespace) -> Outcome:
    """Return all that is to be reported.

    Raises:
        EvaluationError: An option or a file is wrong.
    """
    settings = _settings(args)
    if args.output_dir is not None:
        check_writable(args.output_dir / "report.html")
    sources = _label_sources(args)
    benchmarks = _arranged(read_benchmarks(sources, load_registry(args.registry)) if sources else [], args)
    models = [_first_model(args, benchmarks)]
    if args.baseline:
        models.append(_read_model(args.baseline, args.baseline_name, benchmarks))
        if models[0].name == models[1].name:
            raise EvaluationError(f"both models are called {models[0].name!r}; pass --name and --baseline-name")
    benchmarks = benchmarks or _arranged(labels_of_predictions(models[0].predictions), args)
    results = [_evaluate(model, benchmarks, settings, ignore_suffix=args.ignore_suffix) for model in models]
    return Outcome(results, settings, compare_models(results[0], results[1], settings) if args.baseline else None)


def write_outputs(outcome: Outcome, folder: Path, *, num_worst: int = 6, raw_plcc: bool = False) -> list[Path]:
    """Write evaluation.json, evaluation.csv, table.tex and report.html into `folder`; returns their paths."""

    def write(name: str, text: str) -> Path:
        write_text(folder / name, text)
        return folder / name

    def page(partial: Path) -> None:
        write_html(outcome, partial, num_worst=num_worst, raw_plcc=raw_plcc)

    paths = [
        write("evaluation.json", json.dumps(as_json(outcome), indent=2, ensure_ascii=False) + "\n"),
        write("evaluation.csv", as_csv(outcome)),
        write("table.tex", as_latex(outcome, raw_plcc=raw_plcc)),
    ]
    write_atomically(folder / "report.html", page)
    return [*paths, folder / "report.html"]


def _settings(args: argparse.Namespace) -> Settings:
    if args.bootstrap_samples < 0:
        raise EvaluationError(f"--bootstrap-samples: expected at least 0, got {args.bootstrap_samples}")
    if not 0 < args.confidence < 1:
        raise EvaluationError(f"--confidence: expected a number between 0 and 1, got {args.confidence:g}")
    if args.bootstrap_seed < 0 or args.num_worst < 0:
        raise EvaluationError(
            f"--bootstrap-seed and --num-worst: expected at least 0, got {args.bootstrap_seed} and {args.num_worst}"
        )
    lowest, highest = SCORE_RANGE
    if not 0 <= args.min_gap <= highest - lowest:
        raise EvaluationError(f"--min-gap: expected a difference in [0, {highest - lowest:g}], got {args.min_gap:g}")
    return Settings(
        _unscored(args.missing_score), args.bootstrap_samples, args.confidence, args.bootstrap_seed, args.min_gap
    )


def _unscored(text: str) -> float | None:
    lowest, highest = SCORE_RANGE
    if text == "exclude":
        return None
    if text == "middle":
        return (lowest + highest) / 2
    try:
        score = float(text)
    except ValueError:
        score = float("nan")
    if not lowest <= score <= highest:
        raise EvaluationError(
            f"--missing-score: expected exclude, middle or a score in [{lowest:g}, {highest:g}], got {text!r}"
        )
    return score


def _label_sources(args: argparse.Namespace) -> list[LabelSource]:
    sources = [label_source(args, path) for path in args.labels]
    return sources + (read_sets(args.label_sets) if args.label_sets is not None else [])


def _arranged(benchmarks: list[Benchmark], args: argparse.Namespace) -> list[Benchmark]:
    """The benchmarks in the order of the paper's table, others behind as they came, their videos where they are."""
    order = published().benchmarks
    benchmarks = sorted(benchmarks, key=lambda found: order.index(found.name) if found.name in order else len(order))
    if args.video_root is None:
        return benchmarks
    return [with_videos_under(benchmark, args.video_root) for benchmark in benchmarks]


@dataclass(frozen=True)
class Model:
    """A model's predictions, the files they are from, and what a reader must know of them."""

    name: str
    files: list[str]
    predictions: list[Prediction]
    notes: list[str]


def _first_model(args: argparse.Namespace, benchmarks: Sequence[Benchmark]) -> Model:
    if (args.model is None) == (not args.predictions):
        raise EvaluationError("expected either files of predictions or --model PATH")
    if args.model is None:
        return _read_model(args.predictions, args.name, benchmarks)
    if not benchmarks:
        raise EvaluationError("--model: no videos to ask about; pass --labels FILE")
    videos = labelled_videos(benchmarks)  # before the model is looked at
    settings = asking_from(args)
    predictions = ask_model(settings, videos, args.output_dir)
    return Model(args.name or Path(args.model).name, [args.model], predictions, settings.notes)


def _read_model(files: Sequence[str], name: str | None, benchmarks: Sequence[Benchmark]) -> Model:
    known = {benchmark.name for benchmark in benchmarks}
    predictions = []
    paths = []
    for file in files:
        benchmark, _, rest = file.partition("=")
        bound = bool(rest) and not Path(file).exists()
        if bound and known and benchmark not in known:
            raise EvaluationError(
                f"{file}: no benchmark {benchmark!r} in the labels; they have {', '.join(sorted(known))}"
            )
        path = Path(rest if bound else file)
        if not path.is_file():
            raise EvaluationError(f"{path}: no such file; expected predictions")
        paths.append(path)
        predictions += read_predictions(path, benchmark if bound else None)
    calibrated = sum(one.pred_mos_raw is not None for one in predictions)
    notes = [f"{calibrated} of {len(predictions)} scores are calibrated"] if calibrated else []
    return Model(name or paths[0].stem, [str(path) for path in paths], predictions, notes)


def _evaluate(model: Model, benchmarks: Sequence[Benchmark], settings: Settings, *, ignore_suffix: bool) -> ModelResult:
    file = model.files[0]
    matched, unlabelled = match_some(model.predictions, benchmarks, where=file, ignore_suffix=ignore_suffix)
    if not ignore_suffix and (hint := suffix_hint(unlabelled, benchmarks)):
        print(f"vqathinker evaluate: {file}: {len(unlabelled)} predictions have no label{hint}", file=sys.stderr)
    return evaluate_model(
        model.name, benchmarks, matched, settings, files=model.files, unlabelled=unlabelled, notes=model.notes
    )


def _print(outcome: Outcome, args: argparse.Namespace) -> None:
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else PIPE_COLUMNS, highlight=False, markup=False)
    for table in terminal_tables(outcome, raw_plcc=args.raw_plcc):
        console.print(table)
    write: Callable[[str], None] = lambda line: console.print(line, soft_wrap=True)  # noqa: E731
    paper = paper_table(outcome, raw_plcc=args.raw_plcc)
    for note in [*(paper.notes if any(row.published for row in paper.rows) else ()), *outcome.notes]:
        write(note)
    for fault in outcome.faults:
        write(f"warning: {fault}")
    if args.output_dir is not None:
        write(f"written: {args.output_dir}/evaluation.json, evaluation.csv, table.tex, report.html")
