"""The outcome as tables: on the terminal, as CSV, as LaTeX."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from vqathinker_verl.evaluation.compare import Difference
from vqathinker_verl.evaluation.outcome import TITLES, Outcome
from vqathinker_verl.evaluation.reference import published
from vqathinker_verl.evaluation.results import BenchmarkResult, Mean
from vqathinker_verl.metrics.bootstrap import METRICS
from vqathinker_verl.metrics.evaluate import Estimate

if TYPE_CHECKING:
    from rich.table import Table

NO_VALUE = "--"
NOT_COMPARABLE = "\N{DAGGER}"
# The metrics to read, what papers report first; all seven are in the JSON and the CSV.
SHOWN_METRICS = ("srcc", "plcc", "krcc", "rmse", "plcc_raw", "pair_accuracy")
Pair = tuple[float, float]


@dataclass(frozen=True)
class PaperRow:
    """One model in the paper's layout.

    Attributes:
        name: the model; a published row that is not comparable is marked with NOT_COMPARABLE.
        cells: (SRCC, PLCC) of each column, None where nothing is known; PLCC is NaN where only SRCC was published.
        published: whether the row is from the published table.
        comparable: whether the row may be compared with the others.
    """

    name: str
    cells: tuple[Pair | None, ...]
    published: bool
    comparable: bool = True


@dataclass(frozen=True)
class PaperTable:
    """The table of the paper: a row a model, a column a benchmark, then the means, each cell SRCC/PLCC.

    A mean stands only where every column before it has a metric.
    """

    columns: tuple[str, ...]
    rows: tuple[PaperRow, ...]
    notes: tuple[str, ...]


def paper_table(outcome: Outcome, *, raw_plcc: bool = False) -> PaperTable:
    """Return the paper's table with its published rows above the evaluated models.

    A published row is shown when it has a metric for any of the benchmarks.

    Args:
        outcome: what was found.
        raw_plcc: PLCC without the logistic fit, as the released code computes it.
    """
    names = [result.name for result in outcome.models[0].benchmarks]
    plcc = "plcc_raw" if raw_plcc else "plcc"
    table = published()
    rows = []
    for model in table.models:
        cells = [model.srcc_plcc.get(name) for name in names]
        if any(cell is not None for cell in cells):
            weights = [table.num_videos.get(name, math.nan) for name in names]
            means = (_mean_pair(cells, [1.0] * len(cells)), _mean_pair(cells, weights))
            name = f"{model.name} {NOT_COMPARABLE}" if model.not_comparable else model.name
            rows.append(PaperRow(name, (*cells, *means), True, not model.not_comparable))
    for found in outcome.models:
        metrics = [*(result.metrics for result in found.benchmarks), found.plain.metrics, found.weighted.metrics]
        rows.append(PaperRow(found.name, tuple((f["srcc"].value, f[plcc].value) for f in metrics), False))
    notes = [f"SRCC/PLCC; PLCC {'without' if raw_plcc else 'after'} the logistic fit in the evaluated models' rows."]
    if any(row.published for row in rows):
        notes.append(f"Published rows: {table.source}.")
        shown = {row.name for row in rows}
        for model in table.models:
            if f"{model.name} {NOT_COMPARABLE}" in shown:
                notes.append(f"{NOT_COMPARABLE} {model.name} is not comparable: {model.not_comparable}.")
        for result in outcome.models[0].benchmarks:
            expected = table.num_videos.get(result.name)
            if expected is not None and expected != result.num_videos:
                notes.append(f"{result.name}: {result.num_videos} videos here, {expected} in the published rows.")
    if len(names) == 1:  # the means of one benchmark are itself
        rows = [PaperRow(row.name, row.cells[:1], row.published) for row in rows]
        return PaperTable(tuple(names), tuple(rows), tuple(notes))
    return PaperTable((*names, "mean", "weighted"), tuple(rows), tuple(notes))


def _mean_pair(cells: Sequence[Pair | None], weights: Sequence[float]) -> Pair | None:
    known = [cell for cell in cells if cell is not None]
    total = sum(weights)
    if len(known) < len(cells) or math.isnan(total):
        return None
    srcc, plcc = (sum(w * cell[k] for w, cell in zip(weights, known, strict=True)) / total for k in (0, 1))
    return srcc, plcc


def short(value: float) -> str:
    """A correlation as papers print it.

    >>> short(0.8834), short(-0.05), short(1.0), short(-0.0001), short(float("nan"))
    ('.883', '-.050', '1.000', '.000', '--')
    """
    if math.isnan(value):
        return NO_VALUE
    text = f"{round(value, 3) + 0.0:.3f}"
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text


def short_pair(pair: Pair | None) -> str:
    """SRCC/PLCC as in the paper.

    >>> short_pair((0.883, 0.88)), short_pair(None)
    ('.883/.880', '--')
    >>> short_pair((0.893, float("nan")))  # only SRCC was published
    '.893/--'
    """
    return NO_VALUE if pair is None else f"{short(pair[0])}/{short(pair[1])}"


def short_interval(metric: Estimate) -> str:
    """The bounds in brackets, empty without any."""
    return "" if math.isnan(metric.low) else f"[{short(metric.low)}, {short(metric.high)}]"


def p_text(p_value: float) -> str:
    """A p-value to print.

    >>> p_text(0.0304), p_text(0.0002), p_text(float("nan"))
    ('0.030', '<0.001', '--')
    """
    if math.isnan(p_value):
        return NO_VALUE
    return "<0.001" if p_value < 0.001 else f"{p_value:.3f}"


def terminal_tables(outcome: Outcome, *, raw_plcc: bool = False) -> "list[Table]":
    """Return the tables for a terminal: metrics of each model, the paper's layout, the comparison."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    def row(table: Table, *cells: str) -> None:
        table.add_row(*(Text(cell) for cell in cells))  # Text: a name in brackets is no markup

    def table_of(title: str, columns: Sequence[str]) -> Table:
        table = Table(title=Text(title), title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
        table.add_column(columns[0], overflow="fold")
        for column in columns[1:]:
            table.add_column(column, justify="right", no_wrap=True)
        return table

    tables = []
    share = f"{100 * outcome.settings.confidence:g}%"
    for model in outcome.models:
        # Columns that would hold nothing but zeros are left out: 80 characters are soon full.
        counts = {"videos": [str(result.num_videos) for result in model.benchmarks]}
        if any(result.answers[1] for result in model.benchmarks):
            counts["no score"] = [_percent(result) for result in model.benchmarks]
        if any(result.num_missing for result in model.benchmarks):
            counts["missing"] = [str(result.num_missing) for result in model.benchmarks]
        table = table_of(
            f"{model.name} (under SRCC and PLCC: {share} intervals)",
            ["benchmark", *(TITLES[name] for name in SHOWN_METRICS), *counts],
        )
        for number, result in enumerate(model.benchmarks):
            row(table, result.name, *_metric_cells(result), *(column[number] for column in counts.values()))
        if len(model.benchmarks) > 1:
            table.add_section()
            row(table, "mean", *_metric_cells(model.plain), *("" for _ in counts))
            row(table, "weighted by videos", *_metric_cells(model.weighted), *("" for _ in counts))
        tables.append(table)
    paper = paper_table(outcome, raw_plcc=raw_plcc)
    if any(line.published for line in paper.rows):
        # Narrow enough for ten benchmarks: SRCC above PLCC, names broken at their hyphens.
        columns = ["model", *(name.replace("-", "-\n") for name in paper.columns)]
        table = table_of("SRCC above PLCC, beside published results", columns)
        for line, following in zip_longest(paper.rows, paper.rows[1:]):
            row(table, line.name, *(short_pair(cell).replace("/", "\n") for cell in line.cells))
            if following is not None and following.published != line.published:
                table.add_section()
        tables.append(table)
    if outcome.comparison is not None:
        found = outcome.comparison
        columns = ["benchmark", "videos", "SRCC", "p", "PLCC", "p", "Williams t (SRCC)", "p"]
        table = table_of(f"{found.first} less {found.second}, paired", columns)
        for benchmark in found.benchmarks:
            differences = _difference_cells(benchmark.differences["srcc"]) + _difference_cells(
                benchmark.differences["plcc"]
            )
            t = NO_VALUE if math.isnan(benchmark.williams_t) else f"{benchmark.williams_t:.2f}"
            row(table, benchmark.name, str(benchmark.num_videos), *differences, t, p_text(benchmark.williams_p))
        if len(found.benchmarks) > 1:
            table.add_section()
            cells = _difference_cells(found.mean["srcc"]) + _difference_cells(found.mean["plcc"])
            row(table, "mean", "", *cells, "", "")
        tables.append(table)
    return tables


def _percent(result: BenchmarkResult) -> str:
    return NO_VALUE if math.isnan(result.unscored_share) else f"{100 * result.unscored_share:.1f}%"


def _metric_cells(found: BenchmarkResult | Mean) -> list[str]:
    cells = []
    for name in SHOWN_METRICS:
        metric = found.metrics[name]
        bounds = short_interval(metric) if name in ("srcc", "plcc") else ""
        cells.append(short(metric.value) + (f"\n{bounds}" if bounds else ""))
    return cells


def _difference_cells(difference: Difference) -> list[str]:
    value = difference.metric.value
    sign = "" if math.isnan(value) or value < 0 else "+"
    return [f"{sign}{short(value)}\n{short_interval(difference.metric)}".strip(), p_text(difference.p_value)]


CSV_COLUMNS = (
    "model",
    "benchmark",
    "num_videos",
    "num_scored",
    "num_unscored",
    "unscored_share",
    "num_missing",
    "num_pairs",
    *(f"{name}{bound}" for name in METRICS for bound in ("", "_low", "_high")),
    "fit_lower",
    "fit_upper",
    "fit_centre",
    "fit_scale",
    "fit_converged",
    "undefined",
)


def as_csv(outcome: Outcome) -> str:
    """Return a row a model and benchmark, then the means; a metric that does not exist is an empty cell."""
    text = io.StringIO()
    writer = csv.DictWriter(text, CSV_COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for model in outcome.models:
        for result in model.benchmarks:
            fit = result.fit
            writer.writerow(
                {
                    "model": model.name,
                    "benchmark": result.name,
                    "num_videos": result.num_videos,
                    "num_scored": result.num_scored,
                    "num_unscored": result.num_unscored,
                    "unscored_share": _blank(result.unscored_share),
                    "num_missing": result.num_missing,
                    "num_pairs": result.num_pairs,
                    "fit_lower": _blank(fit.lower),
                    "fit_upper": _blank(fit.upper),
                    "fit_centre": _blank(fit.centre),
                    "fit_scale": _blank(fit.scale),
                    "fit_converged": int(fit.converged),
                    **_csv_metrics(result),
                }
            )
        for name, mean in (("mean", model.plain), ("weighted mean", model.weighted)):
            if len(model.benchmarks) > 1:
                writer.writerow({"model": model.name, "benchmark": name, **_csv_metrics(mean)})
    return text.getvalue()


def _csv_metrics(found: BenchmarkResult | Mean) -> dict[str, Any]:
    cells: dict[str, Any] = {}
    for name, metric in found.metrics.items():
        cells |= {name: _blank(metric.value), f"{name}_low": _blank(metric.low), f"{name}_high": _blank(metric.high)}
    cells["undefined"] = "; ".join(f"{name}: {reason}" for name, reason in found.undefined.items())
    return cells


def _blank(value: float) -> float | str:
    return "" if math.isnan(value) else value


_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "^": r"\textasciicircum{}",
        "~": r"\textasciitilde{}",
        **{character: f"\\{character}" for character in "&%$#_{}"},
        NOT_COMPARABLE: r"\textdagger{}",
    }
)


def as_latex(outcome: Outcome, *, raw_plcc: bool = False) -> str:
    """Return the paper's table for LaTeX (needs the package booktabs), the best SRCC and PLCC of a column in bold."""
    table = paper_table(outcome, raw_plcc=raw_plcc)
    best = [
        [
            max((cell[k] for cell in column if cell is not None and not math.isnan(cell[k])), default=math.nan)
            for k in (0, 1)
        ]
        for column in zip(*(row.cells for row in table.rows if row.comparable), strict=True)
    ]
    lines = [
        *(f"% {note}" for note in table.notes),
        rf"\begin{{tabular}}{{l{'c' * len(table.columns)}}}",
        r"\toprule",
        " & ".join(["Model", *(name.translate(_LATEX) for name in table.columns)]) + r" \\",
        r"\midrule",
    ]
    for number, row in enumerate(table.rows):
        if number and row.published != table.rows[number - 1].published:
            lines.append(r"\midrule")
        cells = [
            _latex_pair(cell, top if len(table.rows) > 1 and row.comparable else (math.nan, math.nan))
            for cell, top in zip(row.cells, best, strict=True)
        ]
        lines.append(" & ".join([row.name.translate(_LATEX), *cells]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _latex_pair(pair: Pair | None, best: Sequence[float]) -> str:
    if pair is None:
        return NO_VALUE
    # Equal as printed is equal: a lead that the table does not show is none.
    parts = [
        rf"\textbf{{{short(v)}}}" if short(v) == short(b) != NO_VALUE else short(v)
        for v, b in zip(pair, best, strict=True)
    ]
    return "/".join(parts)
