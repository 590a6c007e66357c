"""Accuracy of the answers by question type, compared with chance."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from vqathinker_verl.text_tables import aligned
from vqathinker_verl.understanding.questions import Question

# How a response fared: the index that it chose, or None for no answer.
Answered = tuple[Question, int | None]


@dataclass(frozen=True)
class Accuracy:
    """Accuracy over the questions that were answered at all, a response without an answer being wrong.

    Attributes:
        questions: Questions that have a response.
        correct: Responses that choose the right option.
        no_answer: Responses that choose none, by the rules of `parsing.parse_choice`; they are never guessed.
        accuracy: correct / questions; NaN without questions.
        low: Lower end of its 95% interval (Wilson).
        high: Upper end.
        chance: Mean accuracy of a blind guess among the options.
        commonest: Accuracy of giving the commonest right answer every time, letter or yes or no: what a model that
            sees nothing can reach where the answers are unbalanced.
    """

    questions: int
    correct: int
    no_answer: int
    accuracy: float
    low: float
    high: float
    chance: float
    commonest: float

    def as_json(self) -> dict[str, float | None]:
        """The fields, with null for NaN."""
        return {name: None if math.isnan(value) else value for name, value in asdict(self).items()}


def wilson_interval(correct: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the Wilson score interval of a share (E. B. Wilson, JASA 22, 1927, page 209).

    Args:
        correct: Successes, 0 to `total`.
        total: Trials; (NaN, NaN) for none.
        confidence: In (0, 1).

    Raises:
        ValueError: A number is out of range.

    >>> low, high = wilson_interval(8, 10)
    >>> round(low, 4), round(high, 4)
    (0.4902, 0.9433)
    """
    if not 0 <= correct <= total:
        raise ValueError(f"correct, total: expected 0 <= correct <= total, got {correct}, {total}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence: expected a number between 0 and 1, got {confidence}")
    if total == 0:
        return math.nan, math.nan
    from scipy.stats import binomtest

    interval = binomtest(correct, total).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def accuracy_of(answered: Sequence[Answered]) -> Accuracy:
    """Return the accuracy over some answered questions."""
    total = len(answered)
    correct = sum(choice == question.answer for question, choice in answered)
    low, high = wilson_interval(correct, total)
    right = Counter(question.label(question.answer) for question, _ in answered)
    return Accuracy(
        questions=total,
        correct=correct,
        no_answer=sum(choice is None for _, choice in answered),
        accuracy=correct / total if total else math.nan,
        low=low,
        high=high,
        chance=sum(question.chance for question, _ in answered) / total if total else math.nan,
        commonest=max(right.values()) / total if total else math.nan,
    )


def accuracy_by_type(answered: Iterable[Answered]) -> dict[str, Accuracy]:
    """Return the accuracy of each question type, in the order in which the types first occur."""
    by_type: dict[str, list[Answered]] = {}
    for question, choice in answered:
        by_type.setdefault(question.type, []).append((question, choice))
    return {kind: accuracy_of(members) for kind, members in by_type.items()}


HEADINGS = ("type", "questions", "correct", "no answer", "accuracy", "95% interval", "chance", "commonest answer")


def accuracy_table(by_type: dict[str, Accuracy], overall: Accuracy) -> str:
    """The accuracies as a table in text; the last row is over all types."""
    rows = []
    for kind, row in [*by_type.items(), ("overall", overall)]:
        counts = [str(count) for count in (row.questions, row.correct, row.no_answer)]
        interval = f"{_share(row.low)} - {_share(row.high)}"
        rows.append([kind, *counts, _share(row.accuracy), interval, _share(row.chance), _share(row.commonest)])
    return aligned(HEADINGS, rows)


def _share(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"
