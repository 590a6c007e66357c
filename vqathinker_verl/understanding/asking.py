"""Ask a model questions about videos, into a file that ends in the order of the questions."""

from collections.abc import Mapping
from pathlib import Path

from vqathinker_verl.files import write_jsonl
from vqathinker_verl.inference.answers_file import AnswersFile, Row
from vqathinker_verl.inference.asking import MakeRow, answer_missing
from vqathinker_verl.inference.engines import Request
from vqathinker_verl.inference.settings import AskingSettings


def ask_all(
    settings: AskingSettings,
    output: Path,
    requests: Mapping[str, Request],
    *,
    key: str,
    unit: str,
    make_row: MakeRow,
) -> list[Row]:
    """Ask every request that `output` has no answer to yet; what failed is asked again by the next start.

    Args:
        settings: How the model is run and asked; its prompt tells all questions, since answers to others are not
            added to.
        output: JSON lines, one per request; the settings of the answers lie beside it.
        requests: What to ask, by a name that is unique in the file.
        key: The field that the name is kept in.
        unit: What one request is called in the progress bar.
        make_row: What to keep of an answer beside its name and `error`.

    Returns:
        The rows, in the order of `requests`, as the file then has them.

    Raises:
        ValueError: `output` holds answers given under other settings.
        EngineError: The model cannot be loaded.
    """
    file = AnswersFile(output, settings.as_json(), key=key)
    rows = answer_missing(requests, settings, make_row, output=file, key=key, unit=unit, desc=output.name)
    write_jsonl(output, rows)
    return rows
