"""The options that `score`, `ui`, `understand` and `describe` share: which model, how it is run, what it is shown."""

import argparse
import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from vqathinker_verl.frames import FrameSpec
from vqathinker_verl.inference.engines import EVALUATION_FRAMES, Backend, ModelDefaults, Sampling, read_defaults
from vqathinker_verl.inference.engines.contract import EXPORT_FILE, check_samples
from vqathinker_verl.inference.model_source import usable_model
from vqathinker_verl.inference.scoring import model_identity

ANSWER_ONLY = "<answer>"
FAR = 2  # times as many frames as the model was validated with are unlike what it has learnt


def add_engine_options(parser: argparse.ArgumentParser, *, model_required: bool = True) -> None:
    """Add the options that `engine_settings` reads."""
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
        f"Defaults are those of the model's {EXPORT_FILE}, which export writes: what it was asked at validation.",
    )
    asked.add_argument("--max-tokens", type=int, metavar="N", help="longest response (default: the model's, or 2048)")
    asked.add_argument("--temperature", type=float, metavar="T", help="0: the likeliest tokens (default: the model's, "
                       "or 0; 1 for --samples above 1)")  # fmt: skip
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
        "--samples", type=int, metavar="K", help="mean and spread of K sampled responses (default: the model's, or 1)"
    )
    asked.add_argument("--prompt", metavar="TEXT", help="the question (default: the model's, or the paper's)")


def add_root_option(parser: argparse.ArgumentParser) -> None:
    """Add --video-root of the commands that take videos; its earlier name still works."""
    parser.add_argument("--video-root", dest="root", type=Path, metavar="DIR", help="name videos relative to this "
                        "folder (default: the folder given, or the file's)")  # fmt: skip
    parser.add_argument("--root", dest="root", type=Path, help=argparse.SUPPRESS)


@dataclass(frozen=True)
class Asking:
    """How a model is asked for scores.

    Attributes:
        settings: Keyword arguments of `open_engine`.
        prompt: The question.
        samples: Responses per video.
    """

    settings: dict[str, Any]
    prompt: str
    samples: int


def asking_from(args: argparse.Namespace) -> Asking:
    """Read the options of both functions above; what is not given comes from the model.

    A training run that is named as the model is exported, and `args.model` then names the exported model.

    Raises:
        ValueError: An option is out of range, or the model cannot be used.
    """
    defaults = _defaults(args)
    samples = args.samples if args.samples is not None else 1 if args.temperature == 0 else defaults.samples
    temperature = args.temperature
    if temperature is None:
        own = args.samples is None or args.samples == defaults.samples
        temperature = defaults.sampling.temperature if own else float(samples > 1)
    settings = _settings(args, defaults, temperature)
    check_samples(samples, settings["sampling"])  # before a model is loaded
    own, shown = defaults.frames.num_frames, settings["frames"].num_frames
    if shown > FAR * own and (Path(args.model) / EXPORT_FILE).is_file():
        sys.stderr.write(f"vqathinker: warning: {shown} frames are shown, {own} at the model's validation\n")
    return Asking(settings, args.prompt if args.prompt is not None else defaults.prompt, samples)


def engine_settings(args: argparse.Namespace) -> dict[str, Any]:
    """Keyword arguments of `open_engine` for other questions than that for a score: one answer, the likeliest.

    Raises:
        ValueError: An option is out of range, or the model cannot be used.
    """
    return _settings(args, _defaults(args), args.temperature if args.temperature is not None else 0.0)


def frames_from(args: argparse.Namespace, defaults: FrameSpec) -> FrameSpec:
    """The frames asked for, over those of the model.

    Raises:
        ValueError: They contradict each other.
    """
    fields = dataclasses.asdict(defaults)
    if args.size is not None:
        fields |= {"size": tuple(args.size), "min_pixels": None, "max_pixels": None}
    elif args.min_pixels is not None or args.max_pixels is not None:
        fields["size"] = None
    asked_for = {name: getattr(args, name) for name in ("num_frames", "min_pixels", "max_pixels")}
    return FrameSpec(**fields | {name: value for name, value in asked_for.items() if value is not None})


def _defaults(args: argparse.Namespace) -> ModelDefaults:
    if args.server is None:
        args.model = usable_model(args.model)
    return read_defaults(args.model)


def _settings(args: argparse.Namespace, defaults: ModelDefaults, temperature: float) -> dict[str, Any]:
    own = defaults.sampling
    sampling = Sampling(
        args.max_tokens if args.max_tokens is not None else own.max_tokens,
        temperature,
        args.top_p if args.top_p is not None else own.top_p,
        args.seed,
    )
    return {
        "backend": args.backend,
        "server": args.server,
        "frames": frames_from(args, defaults.frames),
        "sampling": sampling,
        "answer_prefix": ANSWER_ONLY if args.no_thinking else "",
        "dtype": args.dtype,
    }


def generation_settings(model: str, asking: Asking) -> dict[str, Any]:
    """All that a response follows from, beside its video: an output made with other settings is not continued."""
    settings = asking.settings
    return {
        "model": model_identity(model),
        "backend": settings["backend"],
        "server": settings["server"],
        "dtype": settings["dtype"],
        "prompt": asking.prompt,
        "answer_prefix": settings["answer_prefix"],
        "frames": dataclasses.asdict(settings["frames"]),
        "sampling": dataclasses.asdict(settings["sampling"]),
        "samples": asking.samples,
    }
