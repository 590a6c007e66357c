"""Options for the format of label files, shared by `prepare`, `evaluate` and `calibrate`."""

import argparse
from pathlib import Path
from typing import Any

from vqathinker_verl.data.sources import FORMATS, LabelSource

# Options that have the same name as a field of LabelSource.
FIELDS = (
    "dataset", "format", "subset", "video_root", "video_column", "mos_column", "video_pattern", "source_column",
    "source_pattern", "follow_links", "columns", "delimiter", "decimal", "encoding", "sheet", "levels",
    "lower_is_better",
)  # fmt: skip


def add_label_options(labels: Any) -> None:
    """Add the options to a group of a parser; `label_source` reads them."""
    labels.add_argument("--format", dest="label_format", choices=FORMATS,
                        help="format of the labels (default: by the file's suffix)")  # fmt: skip
    labels.add_argument("--dataset", metavar="NAME", help="name of the dataset, which becomes verl's data_source")
    labels.add_argument("--subset", metavar="NAME", help="folder: part of the dataset, such as LSVQ's train or test")
    labels.add_argument("--scale", type=float, nargs=2, metavar=("LOWEST", "HIGHEST"),
                        help="lowest and highest MOS that a viewer could give")  # fmt: skip
    direction = labels.add_mutually_exclusive_group()
    direction.add_argument("--higher-is-better", dest="lower_is_better", action="store_false", default=None,
                           help="a higher value is better, as for MOS (default)")  # fmt: skip
    direction.add_argument("--lower-is-better", dest="lower_is_better", action="store_true", default=None,
                           help="a lower value is better, as for DMOS")  # fmt: skip
    labels.add_argument("--video-root", type=Path, metavar="DIR",
                        help="folder to which the videos' paths are relative")  # fmt: skip
    labels.add_argument(
        "--follow-links", action="store_true", help="accept symbolic links that lead out of the video root"
    )
    labels.add_argument("--video-column", metavar="NAME", help="column or JSON field with the video (default: video, "
                        "or that of a known format)")  # fmt: skip
    labels.add_argument("--mos-column", metavar="NAME", help="column or JSON field with the MOS (default: mos, or that "
                        "of a known format)")  # fmt: skip
    labels.add_argument("--video-pattern", metavar="TEXT",
                        help="table: path with columns in braces, such as 'clips/{flickr_id}.mp4'")  # fmt: skip
    labels.add_argument("--source-column", metavar="NAME",
                        help="table: column with the source; videos of one source stay in one split")  # fmt: skip
    labels.add_argument("--source-pattern", metavar="REGEX",
                        help="regular expression; its first group in the path is the source")  # fmt: skip
    labels.add_argument("--columns", metavar="NAMES",
                        help="table without a header: its columns in order, such as video,_,_,mos")  # fmt: skip
    labels.add_argument("--delimiter", metavar="TEXT",
                        help="text table: separator of its cells, such as ; or tab (default: guessed)")  # fmt: skip
    labels.add_argument("--decimal", choices=(".", ","), help="text table: decimal sign (default: guessed)")
    labels.add_argument("--encoding", metavar="NAME",
                        help="text table: encoding, such as utf-8 or gb18030 (default: guessed)")  # fmt: skip
    labels.add_argument("--sheet", metavar="NAME", help="workbook: name of the sheet (default: the first)")
    labels.add_argument("--levels", action="store_true", help="JSON: read bad, poor, fair, good, excellent as 1 to 5")
    labels.add_argument("--registry", type=Path, metavar="FILE",
                        help="JSON file with datasets of your own (docs/data.md)")  # fmt: skip


def label_source(args: argparse.Namespace, labels: Path) -> LabelSource:
    """Return one label file with the given options."""
    values = {name: getattr(args, "label_format" if name == "format" else name) for name in FIELDS}
    return LabelSource(labels=labels, scale=None if args.scale is None else (args.scale[0], args.scale[1]), **values)
