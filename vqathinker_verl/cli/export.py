"""`vqathinker export`: a training checkpoint as a model that other programs load."""

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path

from vqathinker_verl.inference.export import DTYPES, export_checkpoint
from vqathinker_verl.runner.checkpoints import NoCheckpointError, best_checkpoint, checkpoint_of

EXAMPLE = "vqathinker export outputs/vqathinker --output-dir outputs/model"
EXIT_CODES = "0: exported; 2: there is nothing to export, or it could not be written"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `vqathinker export`."""
    parser.add_argument(
        "checkpoint",
        type=Path,
        metavar="CHECKPOINT",
        help="output folder of a run (its last checkpoint), or its checkpoints/global_step_N",
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--best",
        action="store_true",
        help="of an OUTPUT_DIR: the checkpoint with the highest held-out SRCC (mean over the data sources)",
    )
    which.add_argument("--step", type=int, metavar="N", help="of an OUTPUT_DIR: the checkpoint of this step")
    parser.add_argument("--output-dir", type=Path, metavar="DIR", help="folder to make (default: huggingface_model in "
                        "the checkpoint's folder)")  # fmt: skip
    parser.add_argument("--preset", metavar="NAME|FILE", help="write this preset into the folder, so that scoring asks "
                        "the model by it (default: as at the run's validation)")  # fmt: skip
    parser.add_argument("--dtype", choices=DTYPES, help="of the weights (default: that of the run's rollouts)")


def run(args: argparse.Namespace) -> int:
    """Export, and print the folder; 2 if there is nothing to export."""
    checkpoint = args.checkpoint
    for name in ("torch", "verl"):  # the weights are merged in a process of its own, which imports both
        if find_spec(name) is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    try:
        if args.best:
            checkpoint, said = best_checkpoint(checkpoint)
            print(f"vqathinker export: {said}", file=sys.stderr)
        elif args.step is not None:
            checkpoint = checkpoint_of(checkpoint, args.step)
        folder = export_checkpoint(checkpoint, args.output_dir, dtype=args.dtype, preset=args.preset)
    except (ValueError, NoCheckpointError) as error:
        print(f"vqathinker export: {error}", file=sys.stderr)
        return 2
    print(folder)
    return 0
