"""`vqathinker reasoning`: what a model's reasoning names, held against what is true of the demo's clips."""

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vqathinker_verl.cli.faults import print_faults
from vqathinker_verl.demo.reasoning import Estimate, findings, read_reasoning, read_truth, words_table
from vqathinker_verl.evaluation.predictions import read_predictions
from vqathinker_verl.evaluation.records import EvaluationError
from vqathinker_verl.files import check_writable, write_json
from vqathinker_verl.text_tables import aligned
from vqathinker_verl.understanding.questions import QuestionError

LINES = {
    "names_one": "names one of the words",
    "names_several": "names several",
    "named_right": "names the true one",
    "named_right_chance": "  words dealt out blindly",
    "distortion_right": "a named distortion is true",
    "distortion_right_chance": "  words dealt out blindly",
    "score_named": "mean score, distortion named",
    "score_rest": "mean score, the rest",
    "score_difference": "difference",
    "score_slightly": "mean score with 'slightly'",
    "score_clearly": "mean score with 'clearly'",
    "score_very": "mean score with 'very'",
}

EXAMPLE = "vqathinker reasoning scores.jsonl --labels outputs/demo/labels/val.csv"
EXIT_CODES = "0: done; 1: some videos have no label (each is named); 2: nothing could be done"


def conmetric(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `vqathinker reasoning`."""
    parser.add_argument(
        "responses", type=Path, metavar="RESPONSES", help="JSONL of `vqathinker score`, or verl's validation dump"
    )
    parser.add_argument("--labels", type=Path, required=True, metavar="FILE", help="labels/val.csv of the demo")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the metrics as JSON, too")
    parser.add_argument(
        "--bootstrap-samples", type=int, default=1000, metavar="N", help="bootstrap resamples of the clips"
    )


def run(args: argparse.Namespace) -> int:
    """Read, compare, print; 0 done, 1 some videos have no label, 2 not done."""
    try:
        predictions = read_predictions(args.responses)
        if args.output is not None:
            check_writable(args.output)
        responses, unknown = read_reasoning(predictions, read_truth(args.labels))
        if not responses:
            reason = unknown[0] if unknown else "no response in the file"
            raise QuestionError(f"{args.responses}: no response to a clip of {args.labels} ({reason})")
        metrics, words = findings(responses, num_resamples=args.bootstrap_samples), words_table(responses)
        if args.output is not None:
            facts = {"responses": len(responses), "clips": len({response.clip for response in responses})}
            named = {name: metric.as_json() for name, metric in metrics.items()}
            write_json(args.output, facts | {"metrics": named, "words": words})
    except (QuestionError, EvaluationError) as error:
        print(f"vqathinker reasoning: {error}", file=sys.stderr)
        return 2
    print(_text(metrics, words, len(responses), len({response.clip for response in responses})))
    print_faults("videos without a label", unknown)
    return 1 if unknown else 0


def _text(
    metrics: Mapping[str, Estimate], words: Sequence[Mapping[str, Any]], num_responses: int, num_clips: int
) -> str:
    found = []
    for name, label in LINES.items():
        metric = metrics[name]
        interval = "" if math.isnan(metric.low) else f"{_number(metric.low)} to {_number(metric.high)}"
        found.append([label, _number(metric.value), interval])
    counts = [
        [row["distortion"], row["word"], str(row["true"]), str(row["named"]), str(row["right"]),
         "-" if row["mean_score"] is None else f"{row['mean_score']:.2f}"]
        for row in words
    ]  # fmt: skip
    return "\n".join(
        [
            f"{num_responses} responses to {num_clips} clips; 95% intervals from a bootstrap over clips",
            "",
            aligned(["metric", "value", "95% interval"], found),
            "",
            aligned(["distortion", "word", "true", "named", "right", "mean score"], counts, left=2),
        ]
    )


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"
