"""Summarise the prepared rows as a table and as a histogram of the MOS."""

from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from vqathinker_verl.data.missing import proposed_scale
from vqathinker_verl.data.records import Record, Reject
from vqathinker_verl.files import write_atomically
from vqathinker_verl.prompts import SCORE_RANGE
from vqathinker_verl.text_tables import aligned

HEADINGS = ("dataset", "split", "rows", "missing", "rejected", "scale", "raw MOS", "MOS mean", "MOS std")


def summary_table(
    splits: Sequence[tuple[str, Sequence[Record]]], rejects: Sequence[Reject], missing: Collection[str]
) -> str:
    """Return one line per dataset and split: rows, rejected rows, range of the raw MOS, mean and deviation on [1, 5].

    Args:
        splits: Name of each split and its records.
        rejects: Rows that were left out; counted at the dataset's first split.
        missing: Ids of the rows kept without a file.
    """
    rejected = Counter(reject.label.dataset for reject in rejects)
    lines: list[tuple[str, ...]] = []
    seen: set[str] = set()
    for split, records in splits:
        for dataset in dict.fromkeys(record.label.dataset for record in records):
            members = [record for record in records if record.label.dataset == dataset]
            raw = [record.mos_raw for record in members]
            mos = _mos(members)
            first = dataset not in seen
            seen.add(dataset)
            lines.append(
                (
                    dataset,
                    split,
                    str(len(members)),
                    str(sum(record.video_id in missing for record in members)),
                    str(rejected[dataset] if first else 0),
                    f"{members[0].scale[0]:g}-{members[0].scale[1]:g}",
                    f"{min(raw):.4g}-{max(raw):.4g}",
                    f"{mos.mean():.3f}",
                    f"{mos.std():.3f}",
                )
            )
    lines += [
        (dataset, "-", "0", "0", str(count), *["-"] * 4) for dataset, count in rejected.items() if dataset not in seen
    ]
    return aligned(HEADINGS, lines, left=len(HEADINGS))


LEAST_SHARE = 0.25  # of its scale that a dataset's MOS should span
LEAST_ROWS = 5  # fewer say nothing about the scale


def scale_warnings(records: Sequence[Record]) -> list[str]:
    """Datasets whose MOS use so little of their scale that it may be the wrong one: targets would all be alike."""
    warnings = []
    for dataset, scale in dict.fromkeys((record.label.dataset, record.scale) for record in records):
        raw = [record.mos_raw for record in records if (record.label.dataset, record.scale) == (dataset, scale)]
        (low, high), lowest, highest = scale, min(raw), max(raw)
        share = (highest - lowest) / (high - low)
        if len(raw) < LEAST_ROWS or share >= LEAST_SHARE:
            continue
        better = proposed_scale(lowest, highest)
        meant = "" if better in (None, scale) else f"; did you mean --scale {better[0]:g} {better[1]:g}?"
        warnings.append(
            f"{dataset}: MOS from {lowest:.4g} to {highest:.4g} use {100 * share:.0f} % of the scale {low:g} to "
            f"{high:g}{meant}"
        )
    return warnings


def draw_histogram(path: Path, splits: Sequence[tuple[str, Sequence[Record]]]) -> None:
    """Write a PNG of the MOS on [1, 5], with one panel per split and one colour per dataset."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5 * len(splits), 3.5), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (split, records) in zip(figure.subplots(1, len(splits), squeeze=False)[0], splits, strict=True):
        names = list(dict.fromkeys(record.label.dataset for record in records))
        values = [_mos([record for record in records if record.label.dataset == name]) for name in names]
        axes.hist(values, bins=40, range=SCORE_RANGE, stacked=True, label=names)
        axes.set(title=f"{split}: {len(records)} videos", xlabel="MOS mapped to [1, 5]", ylabel="videos")
        axes.legend(fontsize="small")
    write_atomically(path, lambda partial: figure.savefig(partial, format="png", dpi=120))


def _mos(records: Sequence[Record]) -> np.ndarray:
    return np.array([record.mos for record in records])
