"""Rows as an aligned table in plain text."""

from collections.abc import Iterable, Sequence


def aligned(headings: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1) -> str:
    """Return rows of cells as a table in text, without a break inside a row.

    Args:
        headings: One per column.
        rows: Cells of each row, as many as headings.
        left: How many columns, from the first on, are aligned to the left; numbers belong to the right.

    >>> print(aligned(["kind", "rows"], [["train", "120"], ["val", "5"]]))
    kind   rows
    train   120
    val       5
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for number, heading in enumerate(headings):
        table.add_column(Text(heading), justify="left" if number < left else "right", no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row))  # Text: a name in brackets is no markup
    console = Console(width=100_000, no_color=True)
    with console.capture() as capture:
        console.print(table)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())
