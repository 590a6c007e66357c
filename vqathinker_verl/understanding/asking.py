"""Ask a model about videos and keep every answer at once: a run that was stopped goes on where it was."""

import argparse
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

from vqathinker_verl.inference.engines import (
    EVALUATION_FRAMES,
    Answer,
    Backend,
    Engine,
    Request,
    Sampling,
    open_engine,
)
from vqathinker_verl.understanding.questions import QuestionError

Row = dict[str, Any]
MakeRow = Callable[[Engine, str, Request, Answer], Row]

# Options that decide what the answers are; a run goes on only with the same ones.
DECISIVE = ("model", "num_frames", "max_pixels", "max_tokens", "temperature", "top_p", "seed", "thinking")
ANSWER_OPEN = "<answer>"


def add_engine_arguments(parser: argparse.ArgumentParser, *, model_required: bool) -> None:
    """Add the options that choose the model, the frames that it sees and how it answers."""
    group = parser.add_argument_group("model")
    group.add_argument("--model", required=model_required, help="Hugging Face folder, or the server's model name")
    group.add_argument("--backend", choices=get_args(Backend), default="auto", help="default: %(default)s")
    group.add_argument("--server", metavar="URL", help="address of an OpenAI-compatible server")
    group.add_argument("--num-frames", type=int, default=EVALUATION_FRAMES.num_frames, help="default: %(default)s")
    group.add_argument(
        "--max-pixels", type=int, default=EVALUATION_FRAMES.max_pixels, help="of a frame (default: %(default)s)"
    )
    group.add_argument("--max-tokens", type=int, default=2048, help="of a response (default: %(default)s)")
    group.add_argument("--temperature", type=float, default=0.0, help="default: %(default)s, the likeliest token")
    group.add_argument("--top-p", type=float, default=1.0, help="default: %(default)s")
    group.add_argument("--seed", type=int, default=0, help="of the draws, at a temperature above 0")
    group.add_argument(
        "--no-thinking", dest="thinking", action="store_false", help="begin every response with <answer>: faster"
    )


def engine_of(args: argparse.Namespace) -> Engine:
    """Open the engine that the options of `add_engine_arguments` describe.

    Raises:
        QuestionError: An option is out of range.
        EngineError: The model cannot be loaded.
    """
    try:
        return open_engine(
            args.model,
            backend=args.backend,
            server=args.server,
            frames=replace(EVALUATION_FRAMES, num_frames=args.num_frames, max_pixels=args.max_pixels),
            sampling=Sampling(args.max_tokens, args.temperature, args.top_p, args.seed),
            answer_prefix="" if args.thinking else ANSWER_OPEN,
        )
    except ValueError as error:
        raise QuestionError(str(error)) from error


def settings_of(args: argparse.Namespace) -> Row:
    """The options that decide what the answers are."""
    return {name: getattr(args, name) for name in DECISIVE}


def ask_all(
    output: Path,
    requests: Mapping[str, Request],
    settings: Row,
    make_engine: Callable[[], Engine],
    make_row: MakeRow,
    unit: str,
) -> list[Row]:
    """Ask every request that `output` has no answer to yet, and keep each answer in it as it comes.

    What failed is tried again by the next start. The file ends in the order of `requests`, without rows of others.

    Args:
        output: JSON lines, one a request; beside it, a hidden file holds the settings.
        requests: What to ask, by a name that is unique in the file.
        settings: What the answers depend on beside the request.
        make_engine: Opens the model; not called where nothing is left to ask.
        make_row: What to keep of an answer; `id`, `video`, `prompt` and `error` are added.
        unit: What one request is called in the progress bar.

    Returns:
        The rows, in the order of `requests`.

    Raises:
        QuestionError: `output` holds answers that were given under other settings, or is no such file.
    """
    from tqdm import tqdm

    rows = _answered(output, requests, settings)
    pending = [name for name in requests if name not in rows]
    output.parent.mkdir(parents=True, exist_ok=True)
    _write_whole(settings_path(output), json.dumps(settings))
    write_rows(output, list(rows.values()))
    if pending:
        engine = make_engine()
        with (
            output.open("a", encoding="utf-8") as file,
            tqdm(total=len(requests), initial=len(rows), unit=unit, desc=output.name) as bar,
        ):
            answers = engine.generate([requests[name] for name in pending])
            for name, answer in zip(pending, answers, strict=True):
                request = requests[name]
                row = {"id": name, "video": str(request.video), "prompt": request.prompt}
                row |= make_row(engine, name, request, answer) | {"error": answer.error}
                file.write(json.dumps(row) + "\n")
                file.flush()
                rows[name] = row
                bar.update()
    ordered = [rows[name] for name in requests]
    write_rows(output, ordered)
    return ordered


def _answered(output: Path, requests: Mapping[str, Request], settings: Row) -> dict[str, Row]:
    """The rows of an earlier start that need not be asked again."""
    if not output.exists():
        return {}
    try:
        before = json.loads(settings_path(output).read_text())
    except (OSError, ValueError) as error:
        raise QuestionError(
            f"{output}: exists, and not as the output of an earlier start; choose another --output"
        ) from error
    changed = [f"{name} {before.get(name)!r}, now {value!r}" for name, value in settings.items()
               if before.get(name) != value]  # fmt: skip
    if changed:
        raise QuestionError(
            f"{output}: holds answers given under other settings ({'; '.join(changed)}); "
            "choose another --output, or delete that one"
        )
    rows = {}
    for line in output.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            break  # cut off by a kill: the last line
        request = requests.get(row["id"])
        if request is not None and row["error"] is None and _is_of(row, request):
            rows[row["id"]] = row
    return rows


def _is_of(row: Row, request: Request) -> bool:
    return (row["video"], row["prompt"]) == (str(request.video), request.prompt)


def settings_path(output: Path) -> Path:
    """Where the settings lie under which the answers of `output` were given."""
    return output.with_name(f".{output.name}.settings.json")


def write_rows(path: Path, rows: list[Row]) -> None:
    """Write JSON lines, whole or not at all."""
    _write_whole(path, "".join(json.dumps(row) + "\n" for row in rows))


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON, whole or not at all."""
    _write_whole(path, json.dumps(value, indent=2) + "\n")


def _write_whole(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)
