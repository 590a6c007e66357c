"""`vqathinker describe`: write quality descriptions of videos as a bundle for human or LLM judges."""

import argparse
import sys
from pathlib import Path

from vqathinker_verl.cli.faults import print_faults, print_left_out
from vqathinker_verl.files import check_writable
from vqathinker_verl.inference.answers_file import Row
from vqathinker_verl.inference.engines import Answer, Engine, EngineError, Request
from vqathinker_verl.inference.options import add_engine_options, add_root_option, likeliest_from
from vqathinker_verl.inference.scoring import check_videos, find_videos
from vqathinker_verl.understanding.asking import ask_all
from vqathinker_verl.understanding.describe import DESCRIBE_PROMPT, described, save_frames, write_page

EXAMPLE = "vqathinker describe clips/ --model outputs/model --output-dir descriptions"
EXIT_CODES = "0: all videos have a response; 1: some could not be read (each is named); 2: nothing was done"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `vqathinker describe`."""
    parser.add_argument("videos", nargs="+", type=Path, metavar="VIDEO|DIR", help="videos, or folders of them")
    parser.add_argument(
        "--output-dir", type=Path, required=True, metavar="DIR", help="folder of the bundle; resumed if it exists"
    )
    add_root_option(parser)
    parser.add_argument(
        "--prompt",
        default=DESCRIBE_PROMPT,
        metavar="TEXT",
        help="the question (default: asks for a description of the quality)",
    )
    add_engine_options(parser)


def run(args: argparse.Namespace) -> int:
    """Describe; return 0 if all videos have a response, 1 if some could not be read, 2 if not done."""
    try:
        return _describe(args)
    except (ValueError, EngineError) as error:
        print(f"vqathinker describe: {error}", file=sys.stderr)
        return 2


def _describe(args: argparse.Namespace) -> int:
    videos = find_videos(args.videos, args.video_root)
    print_left_out("describe", args.videos)
    check_writable(args.output_dir / "index.html")

    def make_row(engine: Engine, name: str, answer: Answer) -> Row:
        frames: list[str] = []
        if answer.error is None:
            saved = save_frames(videos[name], engine.frames, args.output_dir / "frames" / name)
            frames = [path.relative_to(args.output_dir).as_posix() for path in saved]
        return described(answer.responses[0] if answer.responses else None, args.prompt, frames)

    check_videos(videos.values())
    settings = likeliest_from(args, args.prompt)
    rows = ask_all(
        settings,
        args.output_dir / "descriptions.jsonl",
        {name: Request(video, args.prompt) for name, video in videos.items()},
        key="video_id",
        unit="video",
        make_row=make_row,
    )
    write_page(args.output_dir / "index.html", rows, settings.model)
    errors = [row["error"] for row in rows if row["error"] is not None]
    without = sum(row["error"] is None and row["description"] is None for row in rows)
    print(f"{len(rows) - len(errors)} of {len(rows)} videos answered, {without} of them without an answer block")
    print(f"{args.output_dir / 'index.html'}: for a human judge\n{args.output_dir / 'descriptions.jsonl'}: for a model")
    print_faults("videos without an answer", errors)
    return 1 if errors else 0
