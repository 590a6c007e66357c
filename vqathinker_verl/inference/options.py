"""The options that `score`, `ui`, `understand` and `describe` share: which model, how it is run, what it is shown."""

import argparse
import sys
from pathlib import Path
from typing import Any, get_args

from vqathinker_verl.inference.engines import EVALUATION_FRAMES, Backend
from vqathinker_verl.inference.engines.contract import EXPORT_FILE
from vqathinker_verl.inference.preset import preset_names
from vqathinker_verl.inference.settings import AskingSettings, Scoring, asking_settings

FAR = 2  # times as many frames as the model was validated with are unlike what it has learnt


def add_engine_options(parser: argparse.ArgumentParser, *, model_required: bool = True) -> None:
    """Add the options of the model, its responses and its frames."""
    model = parser.add_argument_group("model")
    model.add_argument(
        "--model",
        required=model_required,
        metavar="MODEL",
        help="Hugging Face folder or name, or a training run; with --server as it is served",
    )
    model.add_argument("--server", metavar="URL", help="OpenAI-compatible server, such as `vllm serve`")
    model.add_argument(
        "--backend", choices=get_args(Backend), default="auto", help="auto: vllm if it is installed, else transformers"
    )
    model.add_argument("--dtype", default="auto", metavar="NAME", help="auto: bfloat16 on a GPU, float32 without one")
    asked = parser.add_argument_group(
        "responses and frames",
        f"Defaults are those of the model's {EXPORT_FILE}, which export writes, or those of --preset.",
    )
    asked.add_argument("--max-tokens", type=int, metavar="N", help="longest response (default: the model's, or 2048)")
    asked.add_argument("--temperature", type=float, metavar="T", help="0: the likeliest tokens (default: the model's, "
                       "or 0; 1 for --num-samples above 1)")  # fmt: skip
    asked.add_argument("--top-p", type=float, metavar="P", help="share of the probability to draw from (default: the "
                       "model's, or 1)")  # fmt: skip
    asked.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the draws at a temperature above 0")
    asked.add_argument("--no-thinking", action="store_true", help="the score alone, without reasoning: faster")
    asked.add_argument("--num-frames", type=int, metavar="N",
                       help=f"frames to show (default: the model's, or {EVALUATION_FRAMES.num_frames})")  # fmt: skip
    asked.add_argument("--max-pixels", type=int, metavar="N",
                       help="most pixels of a frame (default: the model's, or 313600)")  # fmt: skip
    asked.add_argument("--min-pixels", type=int, metavar="N", help="fewest pixels of a frame (default: the model's)")
    asked.add_argument("--size", type=int, nargs=2, metavar=("H", "W"), help="one fixed size instead")


def add_question_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that only commands that ask for a score have."""
    asked = parser.add_argument_group("question")
    asked.add_argument(
        "--num-samples",
        type=int,
        metavar="K",
        help="mean and spread of K sampled responses (default: the model's, or 1)",
    )
    asked.add_argument(
        "--scoring",
        choices=get_args(Scoring),
        help="greedy: the likeliest response's number; mean: of K sampled ones; expectation: the expected number after "
        "the likeliest reasoning, in finer steps (default: the model's, or greedy)",
    )
    asked.add_argument(
        "--preset",
        metavar="NAME|FILE",
        help="question, answer form, frames and sampling of a published model, in place of the model's own: "
        f"{', '.join(preset_names())}, or a JSON file; other options win over it",
    )
    asked.add_argument("--prompt", metavar="TEXT", help="the question (default: the model's, or the paper's)")


def add_calibration_option(parser: argparse.ArgumentParser) -> None:
    """Add --calibration of the commands that write or serve scores."""
    level = parser.add_argument_group("level of the scores")
    level.add_argument("--calibration", type=Path, metavar="FILE", help="map scores to the level of your labels, by a "
                        "file of `vqathinker calibrate` made with this model and these settings")  # fmt: skip


def add_root_option(parser: argparse.ArgumentParser) -> None:
    """Add --video-root of the commands that take videos."""
    parser.add_argument("--video-root", type=Path, metavar="DIR", help="name videos relative to this "
                        "folder (default: the folder given, or the file's)")  # fmt: skip


def asking_from(args: argparse.Namespace) -> AskingSettings:
    """Return the settings of a command with the options of both functions above.

    Raises:
        ValueError: An option is out of range, or the model cannot be used.
    """
    settings = asking_settings(
        args.model, **_given(args), prompt=args.prompt, scoring=args.scoring, num_samples=args.num_samples,
        temperature=args.temperature, calibration=getattr(args, "calibration", None), preset=args.preset,
    )  # fmt: skip
    own, shown = settings.defaults.frames.num_frames, settings.frames.num_frames
    if args.preset is None and shown > FAR * own and (Path(settings.model) / EXPORT_FILE).is_file():
        sys.stderr.write(f"vqathinker: warning: {shown} frames are shown, {own} at the model's validation\n")
    for note in settings.notes:
        sys.stderr.write(f"vqathinker: {note}\n")
    return settings


def likeliest_from(args: argparse.Namespace, prompt: str) -> AskingSettings:
    """Return the settings for other questions than that for a score: one response, the likeliest.

    Args:
        args: The options of `add_engine_options`.
        prompt: The question, or what tells all questions of a file from those of another.

    Raises:
        ValueError: An option is out of range, or the model cannot be used.
    """
    temperature = args.temperature if args.temperature is not None else 0.0
    return asking_settings(args.model, **_given(args), prompt=prompt, num_samples=1, temperature=temperature)


def _given(args: argparse.Namespace) -> dict[str, Any]:
    names = ("backend", "server", "dtype", "top_p", "max_tokens", "seed", "num_frames", "size", "min_pixels")
    return {name: getattr(args, name) for name in (*names, "max_pixels")} | {"thinking": not args.no_thinking}
