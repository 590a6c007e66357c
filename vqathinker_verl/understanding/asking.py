"""Ask a model about videos and keep every answer at once: a run that was stopped goes on where it was."""

import argparse
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from vqathinker_verl.inference.engines import Answer, Engine, Request, open_engine
from vqathinker_verl.inference.options import Asking, engine_settings, generation_settings
from vqathinker_verl.inference.quiet import quiet_libraries
from vqathinker_verl.inference.scoring import PredictionsFile, check_videos

Row = dict[str, Any]
# (engine, name of the request, its answer) -> what to keep of it
MakeRow = Callable[[Engine, str, Answer], Row]


def ask_all(
    args: argparse.Namespace,
    output: Path,
    requests: Mapping[str, Request],
    *,
    asked: str,
    key: str,
    unit: str,
    make_row: MakeRow,
) -> list[Row]:
    """Ask every request that `output` has no answer to yet, and keep each answer in it as it comes.

    What failed is asked again by the next start. The file ends in the order of `requests`.

    Args:
        args: The options of `inference.options.add_engine_options`.
        output: JSON lines, one a request; the settings of the answers lie beside it.
        requests: What to ask, by a name that is unique in the file.
        asked: All questions in one text or its digest: answers to others are not gone on with.
        key: The field that the name is kept in.
        unit: What one request is called in the progress bar.
        make_row: What to keep of an answer beside its name and `error`.

    Returns:
        The rows, in the order of `requests`.

    Raises:
        ValueError: An option is out of range, or `output` holds answers given under other settings.
        EngineError: The model cannot be loaded.
    """
    from tqdm import tqdm

    quiet_libraries()
    check_videos(request.video for request in requests.values())
    settings = engine_settings(args)
    file = PredictionsFile(output, generation_settings(args.model, Asking(settings, asked, samples=1)), key=key)
    rows = {name: row for name, row in file.done.items() if name in requests}
    pending = [name for name in requests if name not in rows]
    if pending:
        engine = open_engine(args.model, **settings)
        answers = engine.generate([requests[name] for name in pending])
        lines = (
            {key: name, **make_row(engine, name, answer), "error": answer.error}
            for name, answer in zip(pending, answers, strict=True)
        )
        with tqdm(total=len(requests), initial=len(rows), unit=unit, desc=output.name, disable=None) as bar:
            for row in file.add(lines):
                rows[row[key]] = row
                bar.update()
    ordered = [rows[name] for name in requests]
    write_rows(output, ordered)
    return ordered


def write_rows(path: Path, rows: list[Row]) -> None:
    """Write JSON lines, whole or not at all."""
    _write_whole(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON, whole or not at all."""
    _write_whole(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def _write_whole(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)
