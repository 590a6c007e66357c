"""`vqathinker plan`: print a recipe's config, tokens, steps and memory, without a GPU, a model or data."""

import argparse
import sys

from vqathinker_verl.config.compose import InputError
from vqathinker_verl.plan.model import load_model
from vqathinker_verl.plan.recipe import compose_recipe, find_recipe, recipe_overrides

EXAMPLE = "vqathinker plan qwen2_5_vl_7b --gpu-memory 141"
EXIT_CODES = "0: the run would fit; 1: it would not fit (each reason is named); 2: nothing could be planned"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("recipe", metavar="RECIPE", help="a script of recipes/, by path or by name (qwen2_5_vl_7b)")
    parser.add_argument(
        "overrides", nargs="*", metavar="FIELD=VALUE", help="Hydra overrides, the same as for the recipe itself"
    )
    parser.add_argument(
        "--full", action="store_true", help="print the complete config, not only the fields that differ from verl's"
    )
    parser.add_argument(
        "--gpu-memory", type=float, default=79.0, metavar="GIB", help="memory of one GPU; an 80 GB card has 79"
    )
    parser.add_argument(
        "--video",
        type=video_size,
        default=(1920, 1080),
        metavar="WxH",
        help="size of a source video (default: 1920x1080)",
    )
    parser.description = (
        "Show what a recipe would need: config, tokens, steps and memory, without a GPU or data. Its variables\n"
        "(MODEL_PATH, TRAIN_FILES, NNODES, NGPUS_PER_NODE, ...) are read from the environment, as when it runs."
    )


def run(args: argparse.Namespace) -> int:
    """Print the plan; return 1 if the run would not fit, 2 if nothing could be planned."""
    from vqathinker_verl.plan.figures import faults_of, figures_of
    from vqathinker_verl.plan.report import text_of

    width, height = args.video
    try:
        config = compose_recipe(recipe_overrides(find_recipe(args.recipe), args.overrides))
        model = load_model(config.actor_rollout_ref.model.path)
        figures = figures_of(config, model, gpu_gib=args.gpu_memory, height=height, width=width)
    except (InputError, OSError, ValueError) as error:
        print(f"vqathinker plan: {error}", file=sys.stderr)
        return 2
    print(text_of(config, model, figures, full=args.full))
    faults = faults_of(config, figures)
    for fault in faults:
        print(f"vqathinker plan: {fault}", file=sys.stderr)
    return 1 if faults else 0


def video_size(text: str) -> tuple[int, int]:
    """Read WIDTHxHEIGHT.

    Raises:
        argparse.ArgumentTypeError: the text does not have this form.
    """
    width, _, height = text.partition("x")
    if not (width.isdigit() and height.isdigit()):
        raise argparse.ArgumentTypeError(f"expected WIDTHxHEIGHT in pixels, as 1920x1080, got {text!r}")
    return int(width), int(height)
