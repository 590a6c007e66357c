"""`vqathinker score`: the score and the reasoning of videos, by a trained model."""

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

from vqathinker_verl.inference.engines import EngineError, open_engine
from vqathinker_verl.inference.options import add_engine_options, engine_settings
from vqathinker_verl.inference.scoring import PredictionsFile, find_videos, model_identity, score_videos
from vqathinker_verl.prompts import QUALITY_PROMPT

EXAMPLE = "vqathinker score clips/ --model outputs/model --output scores.jsonl"
EXIT_CODES = "0: every video was answered; 1: some could not be used (each is named); 2: nothing could be done"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `vqathinker score`."""
    parser.add_argument("videos", nargs="+", type=Path, metavar="VIDEO|DIR", help="videos, or folders of them")
    add_engine_options(parser)
    parser.add_argument("--output", type=Path, metavar="JSONL", help="predictions, gone on with; default: to stdout")
    parser.add_argument("--root", type=Path, metavar="DIR", help="videos are named relative to this")
    parser.add_argument("--prompt", default=QUALITY_PROMPT, help="default: the question of the training")
    parser.add_argument("--samples", type=int, default=1, metavar="K", help="mean and spread of K sampled responses")


def run(args: argparse.Namespace) -> int:
    """Score; 0 all have a response, 1 some videos could not be used, 2 nothing could be done."""
    try:
        return score(args)
    except (ValueError, EngineError) as error:
        print(f"vqathinker score: {error}", file=sys.stderr)
        return 2


def score(args: argparse.Namespace) -> int:
    """Score what is not in the output yet.

    Raises:
        ValueError: An option, the videos or the output cannot be used.
        EngineError: The model cannot be loaded, or stops answering.
    """
    from tqdm import tqdm

    videos = find_videos(args.videos, args.root)
    settings = engine_settings(args, samples=args.samples)
    output = PredictionsFile(args.output, what_decides(args, settings)) if args.output else None
    done = output.done if output else {}
    missing = {video_id: video for video_id, video in videos.items() if video_id not in done}
    if output and len(missing) < len(videos):
        _say(f"{len(videos) - len(missing)} of {len(videos)} videos are in {output.path} already")
    failed = unscored = 0
    if missing:
        engine = open_engine(args.model, **settings)
        lines = score_videos(missing, engine, prompt=args.prompt, samples=args.samples)
        with tqdm(total=len(videos), initial=len(videos) - len(missing), unit="video", file=sys.stderr) as bar:
            for line in output.add(lines) if output else lines:
                if not output:
                    tqdm.write(json.dumps(line, ensure_ascii=False), file=sys.stdout)
                if line["error"] is not None:
                    failed += 1
                    tqdm.write(f"vqathinker score: skipped {line['error']}", file=sys.stderr)
                elif line["pred_mos"] is None:
                    unscored += 1
                bar.update()
    where = f", in {output.path}" if output else ""
    _say(f"{len(videos) - failed} of {len(videos)} videos answered, {unscored} now without a score{where}")
    if failed:
        _say(f"{failed} could not be used (named above); the same command tries them again")
    return 1 if failed else 0


def what_decides(args: argparse.Namespace, settings: dict[str, Any]) -> dict[str, Any]:
    """All that a response follows from, beside its video: an output made with other settings is not gone on with."""
    return {
        "model": model_identity(args.model),
        "backend": settings["backend"],
        "server": settings["server"],
        "dtype": settings["dtype"],
        "prompt": args.prompt,
        "answer_prefix": settings["answer_prefix"],
        "frames": dataclasses.asdict(settings["frames"]),
        "sampling": dataclasses.asdict(settings["sampling"]),
        "samples": args.samples,
    }


def _say(text: str) -> None:
    print(f"vqathinker score: {text}", file=sys.stderr)
