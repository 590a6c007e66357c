import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from vqathinker_verl.understanding.accuracy import accuracy_by_type, accuracy_of, accuracy_table, wilson_interval
from vqathinker_verl.understanding.questions import YES_NO, Question


def question(number, answer, options=("a1", "b1", "c1", "d1"), kind="which"):
    letters = options is not YES_NO
    return Question(str(number), "v.mp4", "?", tuple(options), answer, kind, letters)


@given(st.integers(0, 200), st.integers(1, 200))
def test_wilson_interval_is_the_score_tests(correct, total):
    correct = min(correct, total)
    low, high = wilson_interval(correct, total)
    for end in (low, high):
        if 0 < end < 1:  # |share - end| is z standard errors, taken at the end
            error = norm.ppf(0.975) * math.sqrt(end * (1 - end) / total)
            assert abs(correct / total - end) == pytest.approx(error, abs=1e-9)
    assert 0 <= low <= correct / total <= high <= 1


def test_wilson_interval_of_nothing_and_of_nonsense():
    assert all(math.isnan(end) for end in wilson_interval(0, 0))
    with pytest.raises(ValueError, match="expected 0 <= correct <= total, got 3, 2"):
        wilson_interval(3, 2)
    with pytest.raises(ValueError, match="confidence: expected a number between 0 and 1, got 95"):
        wilson_interval(1, 2, confidence=95)


def test_no_answer_is_wrong_and_counted():
    row = accuracy_of([(question(1, 0), 0), (question(2, 1), None), (question(3, 1), 0), (question(4, 1), 1)])
    assert (row.questions, row.correct, row.no_answer, row.accuracy) == (4, 2, 1, 0.5)
    assert row.chance == 0.25
    assert row.commonest == 0.75  # B is right in three of four
    assert row.low < 0.5 < row.high


def test_chance_is_the_mean_over_the_questions():
    members = [(question(1, 0), 0), (question(2, 0, YES_NO), 1)]
    assert accuracy_of(members).chance == pytest.approx((0.25 + 0.5) / 2)
    assert accuracy_of(members).commonest == 0.5  # "A" and "yes" are two answers


def test_by_type_in_order_and_printed():
    members = [(question(1, 0, YES_NO, kind="yes/no"), 0), (question(2, 0), 1), (question(3, 0, YES_NO, "yes/no"), 0)]
    by_type = accuracy_by_type(members)
    assert list(by_type) == ["yes/no", "which"]
    assert (by_type["yes/no"].accuracy, by_type["which"].accuracy) == (1.0, 0.0)
    header, yes_no, which, overall = accuracy_table(by_type, accuracy_of(members)).splitlines()
    assert header.split()[:2] == ["type", "questions"]
    assert yes_no.split()[:5] == ["yes/no", "2", "2", "0", "1.000"]
    assert which.split()[:5] == ["which", "1", "0", "0", "0.000"]
    assert overall.split()[:5] == ["overall", "3", "2", "0", "0.667"]


def test_without_questions_there_is_no_accuracy():
    row = accuracy_of([])
    assert row.as_json()["accuracy"] is None
    assert row.as_json()["questions"] == 0
    assert "-" in accuracy_table({}, row)
