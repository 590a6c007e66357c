"""`vqathinker score`: the score and the reasoning of videos, by a trained model."""

import argparse
import json
import sys
from pathlib import Path

from vqathinker_verl.cli.faults import print_left_out
from vqathinker_verl.files import check_writable
from vqathinker_verl.inference.answers_file import AnswersFile, Row
from vqathinker_verl.inference.asking import answer_missing, prediction_row
from vqathinker_verl.inference.engines import EngineError, Request
from vqathinker_verl.inference.options import (
    add_calibration_option,
    add_engine_options,
    add_question_options,
    add_root_option,
    asking_from,
)
from vqathinker_verl.inference.predictions import Prediction
from vqathinker_verl.inference.quiet import quiet_libraries
from vqathinker_verl.inference.scoring import check_videos, find_videos
from vqathinker_verl.inference.settings import AskingSettings

EXAMPLE = "vqathinker score clips/ --model outputs/model --output scores.jsonl"
EXIT_CODES = "0: every video was answered; 1: some could not be used (each is named); 2: nothing could be done"

FORMATS = ("table", "json")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `vqathinker score`."""
    parser.add_argument("videos", nargs="+", type=Path, metavar="VIDEO|DIR", help="videos or still images, "
                        "or folders of them")  # fmt: skip
    output = parser.add_argument_group("output")
    output.add_argument("--output", type=Path, metavar="FILE", help="JSONL of predictions; resumed if it exists")
    output.add_argument("--csv", type=Path, metavar="FILE", help="table of all videos, for spreadsheets and `evaluate`")
    output.add_argument("--html", type=Path, metavar="FILE", help="page with a picture, the score and the reasoning of "
                        "each video, in one file")  # fmt: skip
    output.add_argument("--format", choices=FORMATS, help="what is printed (default: table on a terminal, else json, "
                        "or nothing with --output, --csv or --html)")  # fmt: skip
    add_root_option(parser)
    add_engine_options(parser)
    add_question_options(parser)
    add_calibration_option(parser)


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
    quiet_libraries()
    videos = find_videos(args.videos, args.video_root)
    print_left_out("score", args.videos)
    check_videos(videos.values())
    files = [path for path in (args.output, args.csv, args.html) if path is not None]
    for path in files:
        check_writable(path)
    if len({path.absolute() for path in files}) < len(files):
        raise ValueError("--output, --csv and --html: expected different files")
    settings = asking_from(args)
    output = AnswersFile(args.output, settings.as_json()) if args.output else None
    shown = args.format or ("table" if sys.stdout.isatty() else None if files else "json")
    if output and (known := sum(video_id in output.done for video_id in videos)):
        _say(f"{known} of {len(videos)} videos are in {output.path} already")
    requests = {video_id: Request(video, settings.prompt) for video_id, video in videos.items()}
    rows = answer_missing(
        requests,
        settings,
        prediction_row(settings, requests),
        output=output,
        on_row=lambda row: _show(row, as_json=shown == "json"),
    )
    lines = [Prediction.from_json(row) for row in rows]
    _write(args, lines, videos, settings)
    return _report(lines, files, shown)


def _write(
    args: argparse.Namespace, lines: list[Prediction], videos: dict[str, Path], settings: AskingSettings
) -> None:
    if args.csv is not None:
        from vqathinker_verl.inference.score_csv import write_csv

        write_csv(lines, args.csv)
    if args.html is not None:
        from vqathinker_verl.inference.score_page import write_page

        write_page(lines, videos, args.html, model=args.model, notes=settings.notes)


def _show(row: Row, *, as_json: bool) -> None:
    from tqdm import tqdm

    if as_json:
        tqdm.write(json.dumps(row, ensure_ascii=False), file=sys.stdout)
    if row["error"] is not None:
        tqdm.write(f"vqathinker score: skipped {row['error']}", file=sys.stderr)


def _report(lines: list[Prediction], files: list[Path], shown: str | None) -> int:
    failed = sum(line.error is not None for line in lines)
    if shown == "table":
        from rich.console import Console

        from vqathinker_verl.inference.table import print_predictions

        print_predictions(Console(highlight=False, markup=False), lines)
    unscored = sum(line.error is None and not line.scored for line in lines)
    where = f"; predictions in {', '.join(map(str, files))}" if files else ""
    _say(f"{len(lines) - failed} of {len(lines)} videos answered, {unscored} of the answers have no score{where}")
    if failed:
        _say(f"{failed} videos could not be used (named above); the same command tries them again")
    return 1 if failed else 0


def _say(text: str) -> None:
    print(f"vqathinker score: {text}", file=sys.stderr)
