"""Read and check question files: a plain layout, FineVD's and Q-Bench-Video's (docs/understanding.md)."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vqathinker_verl.data.records import LabelError
from vqathinker_verl.data.tables import read_lines
from vqathinker_verl.parsing import LETTERS, option_matches, parse_choice, words_of
from vqathinker_verl.prompts import THINK_THEN_ANSWER

YES_NO = ("yes", "no")

# One option of FineVD's, as in "{A:[None], B:[low saturation]}", and what its yes-no questions ask for.
_FINEVD_OPTION = re.compile(r"([A-Z]):\[([^\[\]]*)\]")
_FINEVD_ASKED = re.compile(r"If there is no ([\w ]+) in the video")

Row = Mapping[str, Any]


class QuestionError(ValueError):
    """Nothing can be asked or evaluated; the message names the file, what was expected and what to do."""


class _RowError(ValueError):
    """One row is not of its layout, and is left out."""


class _Skipped(Exception):
    """One row is of a kind that is not asked here; the message names the kind."""


@dataclass(frozen=True)
class Question:
    """One question about one video, with one right answer.

    Args:
        id: Unique in its file.
        video: The video's path as the file has it, relative to the video root.
        text: The question, without its options.
        options: What can be answered; ("yes", "no") for a question without letters.
        answer: Index of the right option.
        type: Questions of one type are counted together.
        letters: Whether the options are shown with letters.
    """

    id: str
    video: str
    text: str
    options: tuple[str, ...]
    answer: int
    type: str
    letters: bool = True

    @property
    def chance(self) -> float:
        """How often a blind guess is right."""
        return 1 / len(self.options)

    def prompt(self) -> str:
        """The text that the model is asked, in the form in which it was trained to answer."""
        if not self.letters:
            return f"{self.text} Answer with yes or no. {THINK_THEN_ANSWER}"
        options = "\n".join(f"{letter}. {option}" for letter, option in zip(LETTERS, self.options, strict=False))
        return f"{self.text}\n{options}\nAnswer with the letter of one option. {THINK_THEN_ANSWER}"

    def choice_of(self, response: str) -> int | None:
        """Index of the option that a response chooses, or None for no answer; see `parsing.parse_choice`."""
        return parse_choice(response, self.options, letters=self.letters)

    def label(self, choice: int | None) -> str | None:
        """How a choice is written in files: its letter, or yes or no."""
        if choice is None:
            return None
        return LETTERS[choice] if self.letters else self.options[choice]


@dataclass(frozen=True)
class QuestionFile:
    """What a question file holds.

    Args:
        questions: Those that can be asked.
        rejects: "file: row: reason" of each row that is not of its layout.
        skipped: Rows of kinds that are not asked here, by kind.
    """

    questions: list[Question]
    rejects: list[str] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)


def read_questions(path: Path) -> QuestionFile:
    """Read JSON lines, or one JSON list, of questions.

    The layout is seen at a row's fields: `conversations` is FineVD's, `video_name` Q-Bench-Video's, else it is the
    plain one: `video`, `question`, `answer`, and where they apply `options`, `type`, `id`.

    Raises:
        QuestionError: The file cannot be read, or no row of it can be asked.
    """
    found = QuestionFile([])
    first: dict[str, str] = {}
    for where, row in read_rows(path):
        try:
            question = _question(row, default_id=where.rsplit(" ", 1)[1])
            if question.id in first:
                raise _RowError(f"id: {question.id!r} is that of {first[question.id]} already; expected one of its own")
        except _Skipped as kind:
            found.skipped[str(kind)] += 1
        except _RowError as error:
            found.rejects.append(f"{where}: {error}")
        else:
            first[question.id] = where
            found.questions.append(question)
    if not found.questions:
        reasons = [*found.rejects[:1], *(f"{count} {kind}" for kind, count in found.skipped.items())]
        raise QuestionError(f"{path}: no question that can be asked ({'; '.join(reasons) or 'the file is empty'})")
    return found


def read_rows(path: Path) -> Iterator[tuple[str, Any]]:
    """Values of a file of JSON lines, or of one JSON list, each with its place in the file: "name: line 3".

    Raises:
        QuestionError: The file cannot be read or is no JSON; the message names the line.
    """
    try:
        lines = list(read_lines(path))
    except LabelError as error:
        raise QuestionError(str(error)) from error
    text = "".join(lines)
    if text.lstrip().startswith("["):
        for number, value in enumerate(_json(path.name, text), start=1):
            yield f"{path.name}: entry {number}", value
        return
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield f"{path.name}: line {number}", _json(f"{path.name}: line {number}", line)


def _json(where: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise QuestionError(f"{where}: expected JSON ({error}); was the file cut off?") from error


def _question(row: Any, default_id: str) -> Question:
    if not isinstance(row, Mapping):
        raise _RowError(f"expected a JSON object, got {type(row).__name__}")
    layouts: dict[str, Callable[[Row, str], Question]] = {"conversations": _finevd, "video_name": _q_bench_video}
    layout = next((layouts[name] for name in layouts if name in row), _plain)
    question = layout(row, default_id)
    if not 2 <= len(question.options) <= len(LETTERS):
        raise _RowError(f"options: expected 2 to {len(LETTERS)}, got {len(question.options)}")
    if len({tuple(words_of(option)) for option in question.options} - {()}) < len(question.options):
        raise _RowError(f"options: expected texts that differ in their words, got {list(question.options)}")
    return question


def _plain(row: Row, default_id: str) -> Question:
    options = row.get("options")
    letters = options is not None
    texts = _texts("options", options) if letters else YES_NO
    return Question(
        id=_text(row, "id") if row.get("id") is not None else default_id,
        video=_text(row, "video"),
        text=_text(row, "question"),
        options=texts,
        answer=_index("answer", _text(row, "answer"), texts, letters=letters),
        type=_text(row, "type") if row.get("type") is not None else "choice" if letters else "yes/no",
        letters=letters,
    )


def _finevd(row: Row, default_id: str) -> Question:
    """A row of FineVD's questions: a question and its answer as a conversation, the options inside the question."""
    turns = row["conversations"]
    if not (isinstance(turns, list) and len(turns) == 2 and all(isinstance(turn, Mapping) for turn in turns)):
        raise _RowError(f"conversations: expected a question and its answer, got {turns!r}")
    asked, answered = (_text(turn, "value") for turn in turns)
    video = _text(row, "video").strip("\ufeff")  # the published files have a byte order mark inside some names
    head, brace, rest = asked.partition("{")
    if brace:
        inside = rest.rpartition("}")[0]
        pairs = _FINEVD_OPTION.findall(inside)
        if ", ".join(f"{letter}:[{option}]" for letter, option in pairs) != inside or (
            "".join(letter for letter, _ in pairs) != LETTERS[: len(pairs)]
        ):
            raise _RowError(f"conversations: expected options as in {{A:[…], B:[…]}}, got {{{inside}}}")
        options = tuple(option for _, option in pairs)
        kind = "which dimension" if "dimension" in head else "which distortion"
        answer = _index("the answer", answered, options)
        return Question(default_id, video, head.strip(), options, answer, kind)
    dimension = _FINEVD_ASKED.search(asked)
    kind = f"yes/no: {dimension[1]}" if dimension else "yes/no"
    answer = _index("the answer", answered, YES_NO, letters=False)
    return Question(default_id, video, asked.strip(), YES_NO, answer, kind, letters=False)


def _q_bench_video(row: Row, default_id: str) -> Question:
    """A row of Q-Bench-Video's list: options in `answers`, the right one's letter in `correct_choice`."""
    kind = row.get("question_type")
    kind = ", ".join(kind) if isinstance(kind, list) and all(isinstance(part, str) for part in kind) else kind
    if not isinstance(kind, str) or not kind:
        raise _RowError(f"question_type: expected text, got {kind!r}")
    video, context = _text(row, "video_name"), str(row.get("context") or "")
    if "open_ended" in kind:
        raise _Skipped("open-ended questions")
    if "_cat_" in video or "Compare" in context or "Joint" in context:
        raise _Skipped("questions about a pair of videos")
    options = _texts("answers", row.get("answers"))
    kind = next((known for known in ("yes-or-no", "what/how") if known in kind), kind)
    answer = _index("correct_choice", _text(row, "correct_choice"), options)
    return Question(default_id, video, _text(row, "question"), options, answer, kind)


def _text(row: Row, name: str) -> str:
    value = row.get(name)
    if isinstance(value, int) and not isinstance(value, bool) and name == "id":
        return str(value)
    if not isinstance(value, str) or not value.strip():
        raise _RowError(f"{name}: expected text, got {value!r}")
    return value


def _texts(name: str, values: Any) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise _RowError(f"{name}: expected a list of texts, got {values!r}")
    return tuple(values)


def _index(name: str, answer: str, options: Sequence[str], *, letters: bool = True) -> int:
    matches = option_matches(answer, options, letters=letters)
    if len(matches) != 1:
        expected = "yes or no" if not letters else f"a letter or the text of one of {list(options)}"
        raise _RowError(f"{name}: expected {expected}, got {answer!r}")
    return matches[0]
