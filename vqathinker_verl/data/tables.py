"""Rows of a table, whatever file it is in: CSV, TSV, MATLAB, Excel."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path

from vqathinker_verl.data.matlab import read_columns
from vqathinker_verl.data.records import LabelError
from vqathinker_verl.data.text_table import TextForm, read_text

Row = dict[str, str]


@dataclass(frozen=True)
class TableForm:
    """How a table is written, where its file does not say.

    Args:
        columns: Names of the columns in order, for a file without a header; "_" skips one.
        text: Delimiter, decimal sign and encoding of a text table.
        sheet: Sheet of a workbook; None: the first.
    """

    columns: tuple[str, ...] | None = None
    text: TextForm = field(default_factory=TextForm)
    sheet: str | None = None


def read_rows(
    path: Path,
    *,
    header: Sequence[str] | None = None,
    transposed: bool = False,
    sheet: str | None = None,
    form: TableForm | None = None,
    wanted: Sequence[str] = (),
    guesses: list[str] | None = None,
) -> list[tuple[str, Row]]:
    """Read a table as text, each row with its place in the file.

    Args:
        path: .mat: the variables that have equally many entries are the columns; .xlsx (needs openpyxl): a sheet;
            anything else: a text table.
        header: Names of the columns when the file does not state them.
        transposed: The file's columns are the rows.
        sheet: Sheet of a workbook; None: the first.
        form: What the user says of the file; its columns and sheet replace `header` and `sheet`.
        wanted: .mat: the columns to read, whatever other variables there are.
        guesses: What had to be guessed is appended.

    Raises:
        LabelError: The file cannot be read.
    """
    form = form or TableForm(sheet=sheet)
    header = form.columns or header
    suffix = path.suffix.lower()
    if suffix == ".mat":
        return _read_mat(path, wanted)
    workbook = suffix in (".xlsx", ".xls")
    found: list[str] = [] if guesses is None else guesses
    cells = _read_workbook(path, form.sheet) if workbook else read_text(path, form.text, found)
    if transposed:
        if len({len(row) for _, row in cells}) > 1:
            raise LabelError(f"{path}: its rows differ in length; expected a transposed table")
        columns = zip(*(row for _, row in cells), strict=True)
        cells = [(f"column {number}", list(column)) for number, column in enumerate(columns, start=1)]
    if form.columns is not None and cells and len(form.columns) > len(cells[0][1]):
        raise LabelError(
            f"{path}: {cells[0][0]} has {len(cells[0][1])} cells, --columns names {len(form.columns)}: "
            f"{', '.join(cells[0][1])}"
        )
    if header is None:
        if not cells:
            return []
        header = cells.pop(0)[1]
    # A short row's last cells are empty; cells beyond the header belong to no column.
    rows = [
        (f"{path.name}: {place}", dict(zip_longest(header, row[: len(header)], fillvalue="")))
        for place, row in cells
        if any(row)
    ]
    if form.columns is not None:
        for _, row in rows:
            row.pop("_", None)
    return rows


def read_lines(path: Path) -> Iterator[str]:
    """Lines of a UTF-8 file, with its byte order mark dropped: it would become part of the first column's name.

    Raises:
        LabelError: The file cannot be read.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from file
    except OSError as error:
        raise LabelError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise LabelError(f"{path}: cannot be read as UTF-8 text ({error})") from error


def _read_workbook(path: Path, sheet: str | None) -> list[tuple[str, list[str]]]:
    import pandas as pd

    try:
        table = pd.read_excel(path, sheet_name=0 if sheet is None else sheet, header=None, dtype=str)
    except ImportError as error:
        raise LabelError(f"{path}: {error}; pip install 'vqathinker-verl[data]', or save the sheet as CSV") from error
    except Exception as error:  # zip, XML and pandas each have errors of their own
        raise LabelError(f"{path}: cannot be read as a workbook ({error}); --sheet names a sheet") from error
    return [
        (f"row {number}", [cell.strip() for cell in row])
        for number, row in enumerate(table.fillna("").values.tolist(), start=1)
    ]


def _read_mat(path: Path, wanted: Sequence[str]) -> list[tuple[str, Row]]:
    columns = read_columns(path, wanted)
    length = max(map(len, columns.values()), default=0)
    return [
        (f"{path.name}: row {number + 1}", {name: column[number] for name, column in columns.items()})
        for number in range(length)
    ]
