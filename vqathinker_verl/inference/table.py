"""Predictions as a table for the terminal, and what can be said of them as a whole."""

import math
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from vqathinker_verl.inference.predictions import Prediction
from vqathinker_verl.inference.scoring import reasoning_of
from vqathinker_verl.prompts import SCORE_RANGE

BAR_CELLS = 10
MAX_ROWS = 40  # of more videos the lowest and the highest are shown
REASONING_CHARACTERS = 200  # more than fits on a line; the table cuts it at the terminal's width


def print_predictions(console: Console, lines: Sequence[Prediction]) -> None:
    """Print score, bar, video and first words of the reasoning of each prediction, then the summary."""
    scored = sorted((line for line in lines if line.scored), key=lambda line: line.pred_mos)
    shown = list(lines)
    if len(lines) > MAX_ROWS:
        shown = [*scored[: MAX_ROWS // 2], *scored[-(MAX_ROWS // 2) :]]
        console.print(f"The {MAX_ROWS // 2} lowest and {MAX_ROWS // 2} highest scores of {len(lines)} videos:")
    console.print(table_of(shown))
    for text in summary_of(lines):
        console.print(text, soft_wrap=True)


def table_of(lines: Sequence[Prediction]) -> Table:
    """One row per prediction, in the order given."""
    sampled = any(line.samples is not None or line.legal_mass is not None for line in lines)
    lowest, highest = SCORE_RANGE
    table = Table(box=None, pad_edge=False)
    table.add_column("score", justify="right", no_wrap=True)
    if sampled:
        table.add_column("spread", justify="right", no_wrap=True)
    table.add_column(f"{lowest:g}{f'{highest:g}':>{BAR_CELLS - 1}}", no_wrap=True, min_width=BAR_CELLS)
    table.add_column("video", overflow="fold", min_width=12)
    table.add_column("reasoning", no_wrap=True, overflow="ellipsis", ratio=1)
    for line in lines:
        score, spread = line.pred_mos if line.scored else None, line.pred_mos_std
        cells = ["-" if score is None else f"{score:.2f}"]
        if sampled:
            cells.append("" if math.isnan(spread) else f"±{spread:.2f}")
        text = line.error or reasoning_of(line.response or "")
        table.add_row(*cells, bar(score), line.video_id, " ".join(text.split())[:REASONING_CHARACTERS])
    return table


def bar(score: float | None) -> str:
    """A score as a bar from the lowest to the highest possible one.

    >>> bar(1.0), bar(3.0), bar(5.0)
    ('░░░░░░░░░░', '█████░░░░░', '██████████')
    """
    if score is None:
        return ""
    lowest, highest = SCORE_RANGE
    filled = round(BAR_CELLS * (score - lowest) / (highest - lowest))
    return "█" * filled + "░" * (BAR_CELLS - filled)


def summary_of(lines: Sequence[Prediction]) -> list[str]:
    """Mean, lowest and highest score; and what should make a reader doubt them."""
    scored = [line for line in lines if line.scored]
    failed = sum(line.error is not None for line in lines)
    without = len(lines) - len(scored) - failed
    texts = []
    if scored:
        worst, best = (pick(scored, key=lambda line: line.pred_mos) for pick in (min, max))
        mean = sum(line.pred_mos for line in scored) / len(scored)
        texts.append(
            f"mean {mean:.2f} of {len(scored)} videos, lowest {worst.pred_mos:.2f} ({worst.video_id}), "
            f"highest {best.pred_mos:.2f} ({best.video_id})"
        )
        if len(scored) > 1 and worst.pred_mos == best.pred_mos:
            texts.append(f"warning: all {len(scored)} scores are equal; this model does not tell these videos apart")
    if any(line.pred_mos_raw is not None for line in lines):
        texts.append("scores and spreads are calibrated; pred_mos_raw in the files is the score before that")
    if without:
        texts.append(f"warning: {without} of {len(lines)} responses hold no valid score")
    return texts
