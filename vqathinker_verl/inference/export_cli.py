"""`vqathinker export`: a training checkpoint as a model that other programs load."""

import argparse
import sys
from pathlib import Path

from vqathinker_verl.inference.export import DTYPES, ExportError, export_checkpoint

EXAMPLE = "vqathinker export outputs/vqathinker --output outputs/model"
EXIT_CODES = "0: exported; 2: there is nothing to export, or it could not be written"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `vqathinker export`."""
    parser.add_argument(
        "checkpoint",
        type=Path,
        metavar="CHECKPOINT",
        help="output folder of a run (its last checkpoint), or its checkpoints/global_step_N",
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help="folder to make (default: huggingface_model in the "
                        "checkpoint's folder)")  # fmt: skip
    parser.add_argument("--dtype", choices=DTYPES, help="of the weights (default: that of the run's rollouts)")


def run(args: argparse.Namespace) -> int:
    """Export, and print the folder; 2 if there is nothing to export."""
    try:
        folder = export_checkpoint(args.checkpoint, args.output, dtype=args.dtype)
    except ExportError as error:
        print(f"vqathinker export: {error}", file=sys.stderr)
        return 2
    print(folder)
    return 0
