"""`vqathinker prepare`: check label files and write them as parquet for verl."""

import argparse
import os
import sys
from pathlib import Path

from vqathinker_verl.cli.label_options import FIELDS, add_label_options, label_source
from vqathinker_verl.data.checks import check_labels
from vqathinker_verl.data.folders import left_out
from vqathinker_verl.data.missing import check_complete, default_root
from vqathinker_verl.data.output import clipped, listed, read_keys, write_parquet, write_quarantine
from vqathinker_verl.data.probing import probe_records
from vqathinker_verl.data.records import LabelError, RawLabel, Record, Reject
from vqathinker_verl.data.registry import Registry, load_registry
from vqathinker_verl.data.sources import LabelSource, format_of, load, read_sets
from vqathinker_verl.data.splits import hold_out, versions_apart
from vqathinker_verl.data.summary import draw_histogram, scale_warnings, summary_table
from vqathinker_verl.files import check_writable
from vqathinker_verl.prompts import QUALITY_PROMPT

EXAMPLE = """vqathinker prepare ratings.csv --dataset mine --video-root clips/ --scale 0 100 --output train.parquet \\
  --holdout 0.2 --holdout-output val.parquet"""
EXIT_CODES = "0: all rows were accepted; 1: some were left out (see OUTPUT.quarantine.csv); 2: nothing was written"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `vqathinker prepare`."""
    labels = parser.add_argument_group("labels")
    labels.add_argument(
        "labels", type=Path, nargs="?", metavar="LABELS", help="label file, or the folder of a known dataset"
    )
    labels.add_argument(
        "--label-sets",
        type=Path,
        metavar="FILE",
        help="JSON list of label sets, instead of LABELS and the options below",
    )
    add_label_options(labels)

    output = parser.add_argument_group("output")
    output.add_argument("--output", type=Path, required=True, metavar="FILE", help="parquet file to write")
    output.add_argument("--split", default="train", metavar="NAME", help="name of the split, in extra_info.split")
    output.add_argument(
        "--holdout", type=float, metavar="SHARE", help="share of the videos to hold out; chosen by source and seed"
    )
    output.add_argument("--holdout-output", type=Path, metavar="FILE", help="parquet file of the held-out videos")
    output.add_argument("--holdout-split", default="val", metavar="NAME", help="name of the held-out split")
    output.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the choice of held-out videos")
    output.add_argument(
        "--exclude", type=Path, nargs="+", default=[], metavar="FILE", help="parquet files whose videos are rejected"
    )
    output.add_argument("--prompt", default=QUALITY_PROMPT, metavar="TEXT", help="the question (default: the paper's)")
    output.add_argument(
        "--quarantine", type=Path, metavar="FILE", help="list of rejected rows (default: OUTPUT.quarantine.csv)"
    )
    output.add_argument("--histogram", type=Path, metavar="FILE", help="picture of the MOS (default: OUTPUT.mos.png)")

    checks = parser.add_argument_group("checks")
    checks.add_argument("--strict", action="store_true", help="stop at the first invalid row and write nothing")
    checks.add_argument("--allow-missing", action="store_true", help="keep and count rows without a video file")
    checks.add_argument("--no-probe", dest="probe", action="store_false", help="do not open the videos")
    checks.add_argument("--workers", type=int, default=min(16, 2 * (os.cpu_count() or 1)), metavar="N",
                        help="videos opened at once (default: two per CPU, at most 16)")  # fmt: skip
    checks.add_argument("--timeout", type=float, default=60.0, metavar="SECONDS", help="time to open one video")


def run(args: argparse.Namespace) -> int:
    """Prepare the labels; return 0 if all rows were accepted, 1 if some were left out, 2 if not done."""
    try:
        return _prepare(args)
    except LabelError as error:
        print(f"vqathinker prepare: {error}", file=sys.stderr)
        return 2


def _prepare(args: argparse.Namespace) -> int:
    if (args.holdout is None) != (args.holdout_output is None):
        raise LabelError("--holdout and --holdout-output go together")
    if args.workers < 1:
        raise LabelError(f"--workers: expected at least 1, got {args.workers}")
    if args.scale is not None and not args.scale[0] < args.scale[1]:
        low, high = args.scale
        raise LabelError(f"--scale {low:g} {high:g}: expected the lowest MOS possible, then the highest")
    for option in ("output", "holdout_output"):
        path = getattr(args, option)
        if path is not None:
            if path.suffix != ".parquet":  # verl chooses the reader by the suffix
                raise LabelError(f"--{option.replace('_', '-')} {path}: expected a name that ends in .parquet")
            check_writable(path)
    guesses: list[str] = []
    records, rejects, missing = _checked_records(args, guesses)
    quarantine = args.quarantine or args.output.with_suffix(".quarantine.csv")
    write_quarantine(quarantine, rejects)
    if not records:
        first = clipped(rejects[0].reason)
        raise LabelError(f"all {len(rejects)} rows were rejected, the first: {first}; see {quarantine}")
    splits = [(args.split, records)]
    warnings = scale_warnings(records)
    if args.holdout is not None:
        kept, held = hold_out(records, args.holdout, args.seed)
        splits = [(args.split, kept), (args.holdout_split, held)]
        warnings += versions_apart(kept, held)
    histogram = args.histogram or args.output.with_suffix(".mos.png")
    draw_histogram(histogram, splits)
    outputs = [args.output, args.holdout_output][: len(splits)]
    for (split, members), path in zip(splits, outputs, strict=True):
        write_parquet(path, members, split, args.prompt)
        print(f"{path}: {len(members)} rows")
    print(f"{histogram}: MOS histogram")
    for guess in guesses:
        print(guess)
    print(summary_table(splits, rejects, missing))
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if rejects:
        print(f"{len(rejects)} rows were left out, the first: {clipped(rejects[0].reason)}; all in {quarantine}")
    return 1 if rejects else 0


def _checked_records(args: argparse.Namespace, guesses: list[str]) -> tuple[list[Record], list[Reject], set[str]]:
    """Return the accepted rows of all sets, the rejected ones, and the ids of accepted rows that have no file."""
    records: list[Record] = []
    rejects: list[Reject] = []
    missing: set[str] = set()
    registry = load_registry(args.registry)
    taken = read_keys(args.exclude)
    for source in _sources(args):
        if args.label_sets is None and os.path.exists(source.labels) and format_of(source, registry) == "table":
            check_complete(source, registry, args.output, allow_missing=args.allow_missing)
        found: list[str] = []
        video_dir = args.output.with_name(f"{args.output.stem}.videos")
        labels, scale = load(source, registry, guesses=found, video_dir=video_dir)
        guesses += [f"{source.labels}: guessed {guess}" for guess in found]
        if format_of(source, registry) == "folder":
            guesses += _left_out(source.labels, labels)
        stored = format_of(source, registry) == "parquet" and any(
            (video_dir / label.video).is_file() for label in labels
        )
        if stored and source.video_root is not None:
            raise LabelError(
                f"{source.labels}: its videos are stored as bytes and are written to {video_dir}, not under "
                f"{source.video_root}; leave out --video-root"
            )
        video_root = video_dir.resolve() if stored else _video_root(source, registry, args.allow_missing)
        good, bad, absent = check_labels(
            labels,
            scale,
            video_root,
            allow_missing=args.allow_missing,
            follow_links=source.follow_links,
            taken=taken,
            registry=registry,
        )
        missing |= absent
        _stop_if_strict(args.strict, bad)
        if args.probe and video_root is not None:
            journal = args.output.with_name(f".{args.output.name}.probed.jsonl")
            good, broken = probe_records(good, journal, workers=args.workers, timeout_seconds=args.timeout)
            _stop_if_strict(args.strict, broken)
            bad += broken
        taken.update((key, "another set") for record in good for key in record.keys)
        records += good
        rejects += bad
    return records, rejects, missing


def _left_out(folder: Path, labels: list[RawLabel]) -> list[str]:
    """Return lines that list the files in a dataset's folder that are not read."""
    videos, others = left_out(folder, labels)
    lines = {"videos without a label": videos, "files that are not videos, by their suffix": others}
    return [f"{folder}: left out {len(files)} {what}: {listed(files)}" for what, files in lines.items() if files]


def _sources(args: argparse.Namespace) -> list[LabelSource]:
    if (args.labels is None) == (args.label_sets is None):
        raise LabelError("expected either one label file or --label-sets FILE")
    if args.label_sets is not None:
        for option in ("label_format", "scale", *(name for name in FIELDS if name != "format")):
            # --higher-is-better gives False; an option that was not given is None.
            given = getattr(args, option)
            if given is not None and (given is not False or option == "lower_is_better"):
                option = option.removeprefix("label_")
                raise LabelError(
                    f"--{option.replace('_', '-')} has no effect with --label-sets; give it in {args.label_sets}"
                )
        return read_sets(args.label_sets)
    return [label_source(args, args.labels)]


def _video_root(source: LabelSource, registry: Registry, allow_missing: bool) -> Path | None:
    video_root = source.video_root
    if video_root is None and source.labels.is_dir():
        video_root = source.labels
    if video_root is None and format_of(source, registry) == "table":
        video_root = default_root(source)
    if video_root is None:
        if not allow_missing:
            raise LabelError(f"{source.labels}: no --video-root; to check labels without videos add --allow-missing")
        return None
    if not os.path.isdir(video_root):  # unlike Path.is_dir, it also accepts text that cannot be a path
        raise LabelError(f"{video_root}: the video root is not a folder")
    # Absolute, so that a worker opens the file from any working directory.
    return video_root.resolve()


def _stop_if_strict(strict: bool, rejects: list[Reject]) -> None:
    if strict and rejects:
        raise LabelError(f"{rejects[0].label.where}: {rejects[0].reason} (--strict: nothing was written)")
