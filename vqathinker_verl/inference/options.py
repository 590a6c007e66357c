"""The options that `score`, `ui`, `understand` and `describe` share: which model, how it is run, what it is shown."""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any, get_args

from vqathinker_verl.frames import FrameSpec
from vqathinker_verl.inference.engines import EVALUATION_FRAMES, Backend, Engine, Sampling, open_engine
from vqathinker_verl.inference.engines.contract import EXPORT_FILE, check_samples

ANSWER_ONLY = "<answer>"


def add_engine_options(parser: argparse.ArgumentParser, *, model_required: bool = True) -> None:
    """Add the options that `engine_from` reads."""
    parser.add_argument(
        "--model",
        required=model_required,
        metavar="PATH",
        help="Hugging Face folder or name; with --server also as it is served",
    )
    parser.add_argument("--server", metavar="URL", help="an OpenAI-compatible server, such as `vllm serve`")
    parser.add_argument(
        "--backend", choices=get_args(Backend), default="auto", help="default: vllm where it is installed"
    )
    parser.add_argument("--dtype", default="auto", help="default: bfloat16 on a GPU, float32 without one")
    parser.add_argument("--max-tokens", type=int, default=2048, metavar="N", help="longest response (%(default)s)")
    parser.add_argument("--temperature", type=float, help="default: 0, the likeliest tokens; 1 with --samples")
    parser.add_argument("--top-p", type=float, default=1.0, metavar="P", help="default %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of the draws at a temperature above 0 (%(default)s)")
    parser.add_argument("--no-thinking", action="store_true", help="the score alone, without reasoning: faster")
    frames = parser.add_argument_group(
        "frames",
        f"default: those of the model's {EXPORT_FILE}, else {EVALUATION_FRAMES.num_frames} of at most 560x560",
    )
    frames.add_argument("--num-frames", type=int, metavar="N")
    frames.add_argument("--max-pixels", type=int, metavar="N", help="most pixels of a frame")
    frames.add_argument("--min-pixels", type=int, metavar="N", help="fewest pixels of a frame")
    frames.add_argument("--size", type=int, nargs=2, metavar=("H", "W"), help="one fixed size instead")


def frames_from(args: argparse.Namespace) -> FrameSpec:
    """The frames asked for, over those that the model was exported with, over the evaluation's.

    Raises:
        ValueError: They contradict each other, or the model's file is not one of ours.
    """
    fields = dataclasses.asdict(model_frames(args.model))
    if args.size is not None:
        fields |= {"size": tuple(args.size), "min_pixels": None, "max_pixels": None}
    elif args.min_pixels is not None or args.max_pixels is not None:
        fields["size"] = None
    asked_for = {name: getattr(args, name) for name in ("num_frames", "min_pixels", "max_pixels")}
    return FrameSpec(**fields | {name: value for name, value in asked_for.items() if value is not None})


def model_frames(model: str) -> FrameSpec:
    """What an exported model was shown at validation; the evaluation's default for any other.

    Raises:
        ValueError: The model's file does not say it.
    """
    path = Path(model) / EXPORT_FILE
    if not path.is_file():
        return EVALUATION_FRAMES
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))["frames"]
        return FrameSpec(**fields)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: expected a JSON object with frames: {{num_frames, size or max_pixels}} ({error}); export again"
        ) from error


def engine_settings(args: argparse.Namespace, *, samples: int = 1) -> dict[str, Any]:
    """Keyword arguments of `open_engine`.

    Raises:
        ValueError: An option is out of range.
    """
    temperature = args.temperature if args.temperature is not None else float(samples > 1)
    sampling = Sampling(args.max_tokens, temperature, args.top_p, args.seed)
    check_samples(samples, sampling)  # before a model is loaded
    return {
        "backend": args.backend,
        "server": args.server,
        "frames": frames_from(args),
        "sampling": sampling,
        "answer_prefix": ANSWER_ONLY if args.no_thinking else "",
        "dtype": args.dtype,
    }


def engine_from(args: argparse.Namespace, *, samples: int = 1) -> Engine:
    """The engine asked for.

    Raises:
        ValueError: See `engine_settings`.
        EngineError: The model cannot be loaded.
    """
    return open_engine(args.model, **engine_settings(args, samples=samples))
