"""The table of training steps: which metric is in which column, and how many columns fit."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from vqathinker_verl.runner.metrics_log import number
from vqathinker_verl.runner.text import fixed, percent

TIMES = {"g": "gen", "o": "old_log_prob", "r": "ref", "u": "update_actor"}
TIME_BAR = 20


@dataclass(frozen=True)
class Column:
    """One column, right-aligned; the character after the value is a space or the "!" of a trouble.

    Attributes:
        title: its header.
        width: of the value.
        metric: key in metrics.jsonl.
        show: the value as text.
        trouble: key of the trouble that is marked here, if it is not `metric`.
    """

    title: str
    width: int
    metric: str
    show: Callable[[float], str]
    trouble: str | None = None

    def marked_by(self, metrics: Iterable[str]) -> bool:
        """Whether one of the troubles belongs to this column."""
        return (self.trouble or self.metric) in metrics


def _decimals(count: int) -> Callable[[float], str]:
    return lambda value: fixed(value, count)


def _rate(value: float) -> str:
    return f"{value:.1e}" if math.isfinite(value) else "-"


# These fit 80 columns.
COLUMNS = (
    Column("reward", 6, "reward/overall", fixed),
    Column("regr", 5, "reward/regression", fixed),
    Column("rank", 5, "reward/ranking", fixed),
    Column("temp", 5, "reward/temporal", fixed),
    Column("format", 6, "reward/format", fixed),
    Column("SRCC", 5, "reward/srcc", _decimals(2)),
    Column("spread", 6, "reward/group_std", _decimals(2)),
    Column("KL", 5, "actor/kl_loss", _decimals(2)),
    Column("no-score", 8, "reward/parse_failure_rate", percent),
    Column("tokens", 6, "response_length/mean", _decimals(1), trouble="response_length/max"),
    Column("s", 5, "timing_s/step", _decimals(1)),
)
# These follow on wider terminals, as many as fit.
MORE_COLUMNS = (
    Column("won", 5, "reward/temporal_win_rate", _decimals(2)),
    Column("pairs", 5, "reward/ranking_accuracy", _decimals(2)),
    Column("grad", 5, "actor/grad_norm", _decimals(2)),
    Column("entropy", 7, "actor/entropy", _decimals(2)),
    Column("lr", 7, "actor/lr", _rate),
    Column("epoch", 5, "training/epoch", _decimals(0)),
    Column("tok/s", 6, "perf/throughput", _decimals(0)),
)
TIME_TITLE = "time: gen, old, ref, upd"


def fitting(width: int, step_width: int) -> tuple[list[Column], bool]:
    """Return the columns that fit into a terminal, and whether the bar of a step's time also fits."""
    room = width - step_width - 1 - sum(column.width + 1 for column in COLUMNS)
    columns = list(COLUMNS)
    for column in MORE_COLUMNS:
        room -= column.width + 1
        if room < 0:
            return columns, False
        columns.append(column)
    return columns, room >= len(TIME_TITLE) + 1


def time_bar(data: Mapping[str, Any]) -> str:
    """How a step's time divides: a letter for each twentieth (generation, old log-probs, reference, update, other)."""
    total = number(data, "timing_s/step")
    if not total > 0:
        return ""
    letters = ""
    for letter, name in TIMES.items():
        seconds = number(data, f"timing_s/{name}")
        letters += letter * (round(TIME_BAR * seconds / total) if math.isfinite(seconds) else 0)
    return letters[:TIME_BAR].ljust(TIME_BAR, ".")
