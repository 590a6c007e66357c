"""`vqathinker summary OUTPUT_DIR`: print the results of a training run, as the screen at its end shows them."""

import argparse
import sys
from pathlib import Path

from vqathinker_verl.runner import ending, plot
from vqathinker_verl.runner.metrics_log import merge_metrics, series

EXAMPLE = "vqathinker summary outputs/vqathinker"
EXIT_CODES = "0: printed; 2: no training step to show"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the subcommand's arguments."""
    parser.add_argument("output_dir", type=Path, metavar="OUTPUT_DIR", help="output folder of the run")
    parser.add_argument("--no-plots", action="store_true", help="print the tables only")


def run(args: argparse.Namespace) -> int:
    """Merge the metrics, draw and print; return 2 if there is nothing to read."""
    if not (args.output_dir / "metrics").is_dir():
        print(
            f"vqathinker summary: {args.output_dir}: no metrics folder; expected the OUTPUT_DIR of a run",
            file=sys.stderr,
        )
        return 2
    metrics = merge_metrics(args.output_dir)
    if not series(metrics, "timing_s/step"):
        print(f"vqathinker summary: no training step in {args.output_dir}/metrics; has the run started?")
        return 2
    if not args.no_plots:
        plot.draw(metrics, args.output_dir)
    ending.show(metrics, args.output_dir)
    return 0
