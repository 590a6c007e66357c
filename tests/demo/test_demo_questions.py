from collections import Counter

import pytest

from vqathinker_verl.demo.clips import ClipLabel, plan_split
from vqathinker_verl.demo.degradations import DISTORTION_WORDS, DISTORTIONS
from vqathinker_verl.demo.questions import DESCRIPTIONS, plan_questions, write_questions
from vqathinker_verl.understanding.questions import read_questions


def test_descriptions_name_every_distortion_in_its_own_word():
    assert DESCRIPTIONS.keys() == DISTORTION_WORDS.keys()
    assert all(DISTORTION_WORDS[name] in text for name, text in DESCRIPTIONS.items())


@pytest.mark.parametrize(("num_clips", "seed"), [(42, 0), (10, 1), (35, 2), (100, 3)])
def test_every_answer_is_true_and_yes_and_no_are_balanced(tmp_path, num_clips, seed):
    labels = plan_split("val", num_clips, seed)
    write_questions(labels, seed, tmp_path / "questions.jsonl")
    read = read_questions(tmp_path / "questions.jsonl")
    assert (read.rejects, dict(read.skipped)) == ([], {})
    assert len(read.questions) == 3 * num_clips
    truth = {label.video: label.distortion for label in labels}
    asked: Counter[tuple[str, str]] = Counter()
    for question in read.questions:
        distortion = truth[question.video]
        if question.letters:
            assert question.options[question.answer] == DESCRIPTIONS[distortion]
            assert len(question.options) == 4
        else:
            (named,) = (name for name, word in DISTORTION_WORDS.items() if question.text.endswith(f" {word}?"))
            answer = question.label(question.answer)
            assert answer == ("yes" if named == distortion else "no")
            asked[named, answer] += 1
    for name in DISTORTIONS:
        count = sum(distortion == name for distortion in truth.values())
        assert asked[name, "yes"] == asked[name, "no"] == count


def test_the_order_of_the_options_is_no_hint():
    rows = plan_questions(plan_split("val", 420, 0), 0)
    letters = Counter(row["answer"] for row in rows if row["type"] == "which of four")
    assert set(letters) == set("ABCD")
    assert max(letters.values()) < 1.4 * min(letters.values())


def test_the_seed_decides(tmp_path):
    labels = plan_split("val", 42, 0)
    assert plan_questions(labels, 0) == plan_questions(labels, 0)
    assert plan_questions(labels, 0) != plan_questions(labels, 1)


def test_clips_of_one_distortion_cannot_be_balanced():
    labels = [ClipLabel(f"{n}.mp4", 50.0, "blur", 0.5, 4, "x") for n in range(3)]
    with pytest.raises(ValueError, match="3 of 3 clips have one distortion; expected at most half"):
        plan_questions(labels, 0)
