"""`vqathinker synthesize`: make chains of known order from a folder of good videos, to train on without labels."""

import argparse
import os
import sys
from pathlib import Path

from vqathinker_verl.data.output import listed, write_rejects, write_rows
from vqathinker_verl.files import check_writable
from vqathinker_verl.frames.suffixes import is_image
from vqathinker_verl.inference.answers_file import ScoringError
from vqathinker_verl.inference.scoring import find_videos
from vqathinker_verl.prompts import QUALITY_PROMPT
from vqathinker_verl.synthesis.chains import ChainTask, choose_distortions, strengths_of
from vqathinker_verl.synthesis.distortions import DISTORTIONS
from vqathinker_verl.synthesis.encoding import missing_encoders
from vqathinker_verl.synthesis.making import make_chains
from vqathinker_verl.synthesis.output import CHAIN_FIELDS, chain_rows, draw_contact_sheet, summary_table

EXAMPLE = "vqathinker synthesize clips/ --output-dir outputs/chains --strengths 5"
EXIT_CODES = "0: all videos were used; 1: some could not be used (see DIR/rejected.csv); 2: nothing was written"


class SynthesisError(ValueError):
    """Nothing can be made; the message names the option or folder and says what to do."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `vqathinker synthesize`."""
    parser.add_argument("videos", nargs="+", type=Path, metavar="VIDEO|DIR", help="videos, or folders of them")
    output = parser.add_argument_group("output")
    output.add_argument(
        "--output-dir", type=Path, required=True, metavar="DIR",
        help="folder to write clips/, chains.parquet and contact_sheet.jpg to; the same command resumes",
    )  # fmt: skip
    output.add_argument("--dataset", default="chains", metavar="NAME", help="name that becomes verl's data_source")
    output.add_argument("--split", default="train", metavar="NAME", help="name of the split, in extra_info.split")
    output.add_argument("--prompt", default=QUALITY_PROMPT, metavar="TEXT", help="the question (default: the paper's)")
    chains = parser.add_argument_group("chains")
    chains.add_argument(
        "--distortions", nargs="+", default=list(DISTORTIONS), metavar="NAME",
        help=f"distortions to make chains with (default: all: {', '.join(DISTORTIONS)})",
    )  # fmt: skip
    chains.add_argument("--chains-per-video", type=int, metavar="N", help="distortions chosen at random for "
                        "each video (default: all given)")  # fmt: skip
    chains.add_argument("--strengths", type=int, default=5, metavar="K", help="strengths per chain, including 0")
    chains.add_argument("--max-ssim", type=float, default=0.98, metavar="X", help="a step is dropped if its SSIM to "
                        "the step before is above this")  # fmt: skip
    chains.add_argument("--max-height", type=int, default=540, metavar="PIXELS", help="larger pictures are scaled down")
    chains.add_argument("--max-seconds", type=float, default=5.0, metavar="SECONDS", help="longer videos are cut")
    chains.add_argument("--seed", type=int, default=0, metavar="N", help="the same seed makes the same clips")
    chains.add_argument("--workers", type=int, default=os.cpu_count() or 1, metavar="N", help="processes (default: one "
                        "per CPU)")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Make the chains; return 0 if all videos were used, 1 if some were not, 2 if nothing was written."""
    try:
        return _synthesize(args)
    except (SynthesisError, RuntimeError) as error:
        print(f"vqathinker synthesize: {error}", file=sys.stderr)
        return 2


def _synthesize(args: argparse.Namespace) -> int:
    _check(args)
    sources = _sources(args.videos)
    folder = args.output_dir.resolve()
    check_writable(folder / "chains.parquet")
    tasks = [
        ChainTask(
            source, str(path), folder / "clips", distortion, strengths_of(args.strengths), args.seed,
            args.max_height, args.max_seconds, args.max_ssim,
        )
        for source, path in sources.items()
        for distortion in choose_distortions(
            source, args.distortions, args.chains_per_video or len(args.distortions), args.seed
        )
    ]  # fmt: skip
    if not sys.stderr.isatty():
        print(f"vqathinker synthesize: {len(tasks)} chains of {len(sources)} videos", file=sys.stderr)
    made, failed = make_chains(tasks, folder / "chains.jsonl", workers=args.workers)
    write_rejects(folder / "rejected.csv", ("video", "reason"), list(failed.items()))
    kept = [chain for chain in made if len(chain.steps) > 1]
    if not kept:
        first = next(iter(failed.values()), f"all steps look alike (SSIM above {args.max_ssim:g})")
        raise SynthesisError(f"no chain could be made of {len(sources)} videos; the first reason: {first}")
    rows = chain_rows(kept, folder / "clips", dataset=args.dataset, split=args.split, prompt=args.prompt)
    draw_contact_sheet(folder / "contact_sheet.jpg", kept, folder / "clips")
    write_rows(folder / "chains.parquet", rows, CHAIN_FIELDS)
    print(summary_table(made, kept))
    dropped = sum(len(chain.dropped) for chain in made)
    print(f"{folder / 'chains.parquet'}: {len(rows)} rows, {len(kept)} chains, no MOS")
    print(f"{folder / 'contact_sheet.jpg'}: contact sheet")
    print(f"{dropped} steps were dropped because they look like the step before (SSIM above {args.max_ssim:g})")
    if failed:
        print(f"{len(failed)} videos were left out, the first: {next(iter(failed.values()))}; all in "
              f"{folder / 'rejected.csv'}")  # fmt: skip
    return 1 if failed else 0


def _check(args: argparse.Namespace) -> None:
    for name, least in (("strengths", 2), ("workers", 1), ("max_height", 64), ("chains_per_video", 1), ("seed", 0)):
        value = getattr(args, name)
        if value is not None and value < least:
            raise SynthesisError(f"--{name.replace('_', '-')}: expected at least {least}, got {value}")
    if not args.max_seconds > 0:
        raise SynthesisError(f"--max-seconds: expected a number above 0, got {args.max_seconds:g}")
    if not 0 < args.max_ssim <= 1:
        raise SynthesisError(f"--max-ssim: expected a number above 0 and at most 1, got {args.max_ssim:g}")
    args.distortions = list(dict.fromkeys(args.distortions))
    unknown = [name for name in args.distortions if name not in DISTORTIONS]
    if unknown:
        raise SynthesisError(f"--distortions {unknown[0]}: unknown; expected some of {', '.join(DISTORTIONS)}")
    lacking = [name for name in missing_encoders() if name in args.distortions]
    if lacking:
        raise SynthesisError(f"--distortions {lacking[0]}: this build of PyAV cannot encode it; leave it out")


def _sources(paths: list[Path]) -> dict[str, Path]:
    """Return the videos by their ids; still images make no chains: they are named, counted and left out."""
    try:
        found = find_videos(paths)
    except ScoringError as error:
        raise SynthesisError(str(error)) from error
    images = [str(path) for path in found.values() if is_image(path)]
    videos = {source: path.absolute() for source, path in found.items() if not is_image(path)}
    if not videos:
        raise SynthesisError(f"{listed(images)}: still images make no chains; pass videos, or folders of them")
    if images:
        print(f"vqathinker synthesize: left out {len(images)} still images: {listed(images)}", file=sys.stderr)
    return videos
