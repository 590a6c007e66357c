"""Rows of a table, whatever file it is in: CSV, TSV, MATLAB, Excel."""

import csv
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path

from vqathinker_verl.data.matlab import read_columns
from vqathinker_verl.data.records import LabelError

Row = dict[str, str]


def read_rows(
    path: Path, *, header: Sequence[str] | None = None, transposed: bool = False, sheet: str | None = None
) -> list[tuple[str, Row]]:
    """Read a table as text, each row with its place in the file.

    Args:
        path: .mat: the variables that have equally many entries are the columns; .xlsx (needs openpyxl): a sheet;
            .tsv: split at tabs; anything else: at commas.
        header: Names of the columns when the file does not state them.
        transposed: The file's columns are the rows.
        sheet: Sheet of a workbook; None: the first.

    Raises:
        LabelError: The file cannot be read.
    """
    suffix = path.suffix.lower()
    if suffix == ".mat":
        return _read_mat(path)
    cells = _read_workbook(path, sheet) if suffix in (".xlsx", ".xls") else _read_text(path)
    if transposed:
        if len({len(row) for _, row in cells}) > 1:
            raise LabelError(f"{path}: its rows differ in length; expected a transposed table")
        columns = zip(*(row for _, row in cells), strict=True)
        cells = [(f"column {number}", list(column)) for number, column in enumerate(columns, start=1)]
    if header is None:
        if not cells:
            return []
        header = cells.pop(0)[1]
    # A short row's last cells are empty; cells beyond the header belong to no column.
    return [
        (f"{path.name}: {place}", dict(zip_longest(header, row[: len(header)], fillvalue="")))
        for place, row in cells
        if any(row)
    ]


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


def _read_text(path: Path) -> list[tuple[str, list[str]]]:
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    reader = csv.reader(read_lines(path), delimiter=delimiter, skipinitialspace=True)
    try:
        rows = ((f"line {reader.line_num}", [cell.strip() for cell in row]) for row in reader)
        return [(place, row) for place, row in rows if any(row)]
    except csv.Error as error:
        raise LabelError(f"{path}: line {reader.line_num}: {error}") from error


def _read_workbook(path: Path, sheet: str | None) -> list[tuple[str, list[str]]]:
    import pandas as pd

    try:
        table = pd.read_excel(path, sheet_name=0 if sheet is None else sheet, header=None, dtype=str)
    except ImportError as error:
        raise LabelError(f"{path}: {error}; install openpyxl, or save the sheet as CSV") from error
    except Exception as error:  # zip, XML and pandas each have errors of their own
        raise LabelError(f"{path}: cannot be read as a workbook ({error})") from error
    return [
        (f"row {number}", [cell.strip() for cell in row])
        for number, row in enumerate(table.fillna("").values.tolist(), start=1)
    ]


def _read_mat(path: Path) -> list[tuple[str, Row]]:
    columns = read_columns(path)
    length = max(map(len, columns.values()), default=0)
    return [
        (f"{path.name}: row {number + 1}", {name: column[number] for name, column in columns.items()})
        for number in range(length)
    ]
