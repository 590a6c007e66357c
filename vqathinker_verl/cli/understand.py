"""`vqathinker understand`: ask a model questions about videos and evaluate its answers, or those of a file."""

import argparse
import hashlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from vqathinker_verl.cli.faults import print_faults
from vqathinker_verl.data.paths import inside_root
from vqathinker_verl.files import check_writable, write_json, write_jsonl
from vqathinker_verl.inference.answers_file import Row
from vqathinker_verl.inference.engines import Answer, Engine, EngineError, Request
from vqathinker_verl.inference.options import add_engine_options, likeliest_from
from vqathinker_verl.inference.scoring import check_videos
from vqathinker_verl.understanding.accuracy import accuracy_by_type, accuracy_of, accuracy_table
from vqathinker_verl.understanding.asking import ask_all
from vqathinker_verl.understanding.questions import Question, QuestionError, QuestionFile, read_questions, read_rows

EXAMPLE = "vqathinker understand questions.jsonl --video-root clips/ --model outputs/model --output answers.jsonl"
EXIT_CODES = """0: done; 1: done, but questions were left out or videos could not be read (each is named)
2: nothing was done"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `vqathinker understand`."""
    parser.add_argument(
        "questions", type=Path, metavar="QUESTIONS", help="JSONL of questions: plain, FineVD's or Q-Bench-Video's"
    )
    parser.add_argument(
        "--video-root", type=Path, metavar="DIR", help="folder of the videos (default: that of the questions)"
    )
    parser.add_argument(
        "--follow-links", action="store_true", help="accept symbolic links that lead out of the video root"
    )
    parser.add_argument("--answers", type=Path, metavar="FILE", help="JSONL with id and response, instead of a model")
    parser.add_argument(
        "--output", type=Path, required=True, metavar="FILE", help="JSONL of answers; resumed if it exists"
    )
    add_engine_options(parser, model_required=False)


def run(args: argparse.Namespace) -> int:
    """Ask and evaluate; return 0 if done, 1 if done with problems that were reported, 2 if not done."""
    try:
        return _understand(args)
    except (ValueError, EngineError) as error:
        print(f"vqathinker understand: {error}", file=sys.stderr)
        return 2


def _understand(args: argparse.Namespace) -> int:
    if (args.model is None) == (args.answers is None):
        raise QuestionError("expected either --model or --answers")
    found = read_questions(args.questions)
    check_writable(args.output)
    faults = {"rows of questions left out": found.rejects}
    if args.answers is not None:
        if args.output.resolve() == args.answers.resolve():
            raise QuestionError(f"--output would overwrite the answers in {args.answers}")
        if args.output.with_name(args.output.name + ".settings.json").exists():
            raise QuestionError(f"{args.output}: contains answers of a model; choose another --output")
        rows, unmatched = _of_file(args.answers, found.questions)
        faults["answers without a question, or questions without an answer"] = unmatched
        write_jsonl(args.output, rows)
    else:
        rows = _ask(args, found.questions)
    faults["videos without an answer"] = sorted({row["error"] for row in rows if row["error"] is not None})
    _report(args, found, rows, faults)
    return 1 if any(faults.values()) else 0


def _ask(args: argparse.Namespace, questions: Sequence[Question]) -> list[Row]:
    root = args.video_root if args.video_root is not None else args.questions.parent
    by_id = {question.id: question for question in questions}
    requests: dict[str, Request] = {}
    for name, question in by_id.items():
        try:
            video = inside_root(question.video, root, follow_links=args.follow_links)
        except ValueError as error:
            raise QuestionError(f"{args.questions}: question {name!r}: {error}") from None
        requests[name] = Request(root / video, question.prompt())
    if not any(Path(str(request.video)).is_file() for request in requests.values()):
        first = next(iter(requests.values())).video
        raise QuestionError(f"none of the videos of {len(requests)} questions exists, first {first}; pass --video-root")
    digest = hashlib.sha256(repr([(name, requests[name].prompt, by_id[name].video) for name in by_id]).encode())

    def make_row(engine: Engine, name: str, answer: Answer) -> Row:
        return _row(by_id[name], answer.responses[0] if answer.responses else None)

    check_videos(request.video for request in requests.values() if isinstance(request.video, Path))
    settings = likeliest_from(args, f"questions {digest.hexdigest()}")
    return ask_all(settings, args.output, requests, key="id", unit="question", make_row=make_row)


def _row(question: Question, response: str | None) -> Row:
    """Return the row of one answer; `choice` is null if the response gives none."""
    return {
        "video": question.video,
        "type": question.type,
        "prompt": question.prompt(),
        "response": response,
        "choice": None if response is None else question.label(question.choice_of(response)),
        "answer": question.label(question.answer),
    }


def _of_file(path: Path, questions: Sequence[Question]) -> tuple[list[Row], list[str]]:
    """Return rows in the format of `_ask` from the responses of a file, and what has no counterpart there."""
    by_id = {question.id: question for question in questions}
    given: dict[str, Row] = {}
    unmatched = []
    for where, row in read_rows(path):
        if not isinstance(row, Mapping) or not isinstance(row.get("id"), str | int) or "response" not in row:
            raise QuestionError(f"{where}: expected a JSON object with id and response, got {row!r:.80}")
        name, response = str(row["id"]), row["response"]
        if response is not None and not isinstance(response, str):
            raise QuestionError(f"{where}: response: expected text, got {response!r:.80}")
        if name in given:
            raise QuestionError(f"{where}: id {name!r} has an answer already; expected one per question")
        given[name] = dict(row)
        if name not in by_id:
            unmatched.append(f"{where}: no question has the id {name!r}")
    rows = []
    for name, question in by_id.items():
        if name not in given:
            unmatched.append(f"{path.name}: no answer to {name!r}")
            continue
        response = given[name]["response"]
        error = given[name].get("error") or (None if response is not None else f"{name}: no response in {path.name}")
        rows.append({"id": name, **_row(question, response), "error": error})
    if not rows:
        raise QuestionError(f"{path}: no answer in it has the id of a question ({'; '.join(unmatched[:2])})")
    return rows, unmatched


def _report(args: argparse.Namespace, found: QuestionFile, rows: list[Row], faults: dict[str, list[str]]) -> None:
    by_id = {question.id: question for question in found.questions}
    answered = [(by_id[row["id"]], by_id[row["id"]].choice_of(row["response"]))
                for row in rows if row["response"] is not None]  # fmt: skip
    by_type, overall = accuracy_by_type(answered), accuracy_of(answered)
    summary = args.output.with_name(f"{args.output.stem}.summary.json")
    facts = {
        "questions": str(args.questions),
        "answers": str(args.answers or args.output),
        "model": args.model,
        "overall": overall.as_json(),
        "types": {kind: row.as_json() for kind, row in by_type.items()},
        "not_asked": dict(found.skipped),
        "faults": faults,
    }
    write_json(summary, facts)
    print(accuracy_table(by_type, overall))
    for kind, count in found.skipped.items():
        print(f"not asked: {count} {kind}")
    print(f"{args.output}: answers\n{summary}: accuracies")
    for kind, messages in faults.items():
        print_faults(kind, messages)
