"""Predictions as a CSV table, which spreadsheets open and `vqathinker evaluate` reads."""

import csv
import io
import math
from collections.abc import Iterable
from pathlib import Path

from vqathinker_verl.files import write_bytes
from vqathinker_verl.inference.predictions import Prediction
from vqathinker_verl.inference.scoring import reasoning_of

COLUMNS = (
    "video_id", "pred_mos", "pred_mos_std", "pred_mos_raw", "legal_mass", "frames", "reasoning", "error", "video",
)  # fmt: skip
# A spreadsheet takes a cell that begins with one of these for a formula.
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write_csv(lines: Iterable[Prediction], path: Path) -> None:
    """Write one row per prediction, with the mark by which spreadsheets recognise UTF-8; a missing value is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for line in lines:
        writer.writerow(
            [
                as_text(line.video_id),
                _number(line.pred_mos),
                _number(line.pred_mos_std),
                _number(line.pred_mos_raw),
                _number(line.legal_mass),
                line.num_frames,
                as_text(reasoning_of(line.response or "")),
                as_text(line.error or ""),
                as_text(line.path or ""),
            ]
        )
    # A file name may hold bytes that are no UTF-8.
    write_bytes(path, text.getvalue().encode("utf-8-sig", "backslashreplace"))


def as_text(cell: str) -> str:
    """Return text that a spreadsheet shows as it is: with an apostrophe in front where it would be a formula.

    >>> as_text("=1+1.mp4"), as_text("a=1.mp4")
    ("'=1+1.mp4", 'a=1.mp4')
    """
    return f"'{cell}" if cell.startswith(FORMULA) else cell


def _number(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value
