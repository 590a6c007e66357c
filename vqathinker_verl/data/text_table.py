"""Text tables whose delimiter, decimal sign and encoding are given or guessed; what was guessed is reported."""

import csv
import io
import re
from dataclasses import dataclass
from pathlib import Path

from vqathinker_verl.data.records import LabelError

DELIMITERS = (",", ";", "\t", "|")
NAMED_DELIMITERS = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "space": " ", "pipe": "|"}
DELIMITER_NAMES = {",": "comma", ";": "semicolon", "\t": "tab", " ": "space", "|": "pipe"}
COMMA_NUMBER = re.compile(r"[+-]?\d+,\d+")
SEEN_LINES = 200  # that a guess looks at

Cells = list[tuple[str, list[str]]]


@dataclass(frozen=True)
class TextForm:
    """How a text table is written; None: guessed.

    Args:
        delimiter: One character between cells, or a name in NAMED_DELIMITERS.
        decimal: The decimal sign, "." or ",".
        encoding: A codec of Python.
    """

    delimiter: str | None = None
    decimal: str | None = None
    encoding: str | None = None


def read_text(path: Path, form: TextForm, guesses: list[str]) -> Cells:
    """Read the cells of a text table, each row with its place; numbers come out with a decimal point.

    Args:
        path: The file.
        form: What is known of it.
        guesses: What had to be guessed and differs from the usual is appended, for the summary.

    Raises:
        LabelError: The file cannot be read, with the option that may help.
    """
    text = _decoded(path, form.encoding, guesses)
    delimiter = _delimiter(path, form.delimiter, text, guesses)
    # Runs of spaces are one delimiter.
    lines = re.sub(r"(?m)^ +| +$|(?<= ) +", "", text) if delimiter == " " else text
    reader = csv.reader(io.StringIO(lines, newline=""), delimiter=delimiter, skipinitialspace=delimiter != "\t")
    try:
        rows = ((f"line {reader.line_num}", [cell.strip() for cell in row]) for row in reader)
        cells = [(place, row) for place, row in rows if any(row)]
    except csv.Error as error:
        raise LabelError(
            f"{path}: line {reader.line_num}: {error}; --delimiter and --encoding say how it is written"
        ) from error
    return _with_points(path, cells, form.decimal, delimiter, guesses)


def _decoded(path: Path, encoding: str | None, guesses: list[str]) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise LabelError(f"{path}: cannot be read ({error.strerror})") from error
    if encoding is not None:
        try:
            return data.decode(encoding).removeprefix("\ufeff")
        except LookupError:
            raise LabelError(f"{path}: --encoding {encoding!r}: not a codec of Python") from None
        except UnicodeDecodeError as error:
            raise LabelError(f"{path}: cannot be read with --encoding {encoding} ({error})") from error
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        encodings = ["utf-16"]
    elif data.startswith(b"\xef\xbb\xbf"):
        encodings = ["utf-8-sig"]
    else:
        encodings = ["utf-8", "cp1252"]
    for guess in encodings:
        try:
            text = data.decode(guess)
        except UnicodeDecodeError:
            continue
        if guess not in ("utf-8", "utf-8-sig"):
            guesses.append(f"encoding {guess} (--encoding)")
        return text
    raise LabelError(f"{path}: cannot be read as UTF-8 text; pass --encoding")


def _delimiter(path: Path, given: str | None, text: str, guesses: list[str]) -> str:
    if given is not None:
        delimiter = NAMED_DELIMITERS.get(given, given)
        if len(delimiter) != 1 or delimiter in '"\r\n':
            raise LabelError(f"{path}: --delimiter {given!r}: expected one character or {', '.join(NAMED_DELIMITERS)}")
        return delimiter
    usual = "\t" if path.suffix.lower() == ".tsv" else ","
    lines = [line for line in text.splitlines() if line.strip()][:SEEN_LINES]
    guess = _guessed(lines, usual)
    if guess != usual:
        guesses.append(f"delimiter {DELIMITER_NAMES[guess]} (--delimiter)")
    return guess


def _guessed(lines: list[str], usual: str) -> str:
    """The usual delimiter unless another one splits the lines more evenly: a comma may be the decimal sign."""
    best, best_rank = usual, (-1.0, False, False)
    for delimiter in dict.fromkeys((usual, *DELIMITERS)):
        try:
            counts = [len(row) for row in csv.reader(lines, delimiter=delimiter)]
        except csv.Error:  # a field without end; reading reports it with its line
            continue
        common = max(set(counts), key=counts.count) if counts else 1
        if common < 2:
            continue
        # Where lines split evenly at both, the comma is a decimal sign.
        rank = (counts.count(common) / len(counts), delimiter != ",", delimiter == usual)
        if rank > best_rank:
            best, best_rank = delimiter, rank
    if best_rank[0] < 0 and all(len(line.split()) == len(lines[0].split()) > 1 for line in lines):
        return " "
    return best


def _with_points(path: Path, cells: Cells, decimal: str | None, delimiter: str, guesses: list[str]) -> Cells:
    if decimal not in (None, ".", ","):
        raise LabelError(f"{path}: --decimal {decimal!r}: expected . or ,")
    if decimal == ".":
        return cells
    comma_numbers = any(COMMA_NUMBER.fullmatch(cell) for _, row in cells for cell in row)
    if not comma_numbers:
        return cells
    if decimal is None:
        guesses.append("decimal comma (--decimal)")
    return [
        (place, [cell.replace(",", ".") if COMMA_NUMBER.fullmatch(cell) else cell for cell in row])
        for place, row in cells
    ]
