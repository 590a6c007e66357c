import json
import re

import pytest

from vqathinker_verl.prompts import THINK_THEN_ANSWER
from vqathinker_verl.understanding.questions import QuestionError, read_questions

CHOICE = {"video": "a.mp4", "question": "What is wrong?", "options": ["Noise", "Blur"], "answer": "B"}
YES_NO = {"video": "a.mp4", "question": "Is there blur?", "answer": "Yes"}


def written(tmp_path, *rows, name="questions.jsonl"):
    path = tmp_path / name
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n", encoding="utf-8")
    return path


def finevd(question, answer, video="a.mp4"):
    return {"video": video, "conversations": [{"from": "human", "value": question}, {"from": "ai", "value": answer}]}


def q_bench_video(**changes):
    row = {
        "video_name": "a.mp4",
        "question": "How is the sharpness?",
        "question_type": "what/how",
        "answers": ["Poor", "Fair", "Good"],
        "context": "Global",
        "correct_choice": "C",
    }
    return row | changes


def test_plain_rows_with_and_without_options(tmp_path):
    read = read_questions(written(tmp_path, CHOICE | {"id": "x", "type": "which"}, YES_NO))
    assert (read.rejects, dict(read.skipped)) == ([], {})
    choice, yes_no = read.questions
    assert (choice.id, choice.type, choice.answer, choice.label(0), choice.chance) == ("x", "which", 1, "A", 0.5)
    assert choice.prompt() == (
        f"What is wrong?\nA. Noise\nB. Blur\nAnswer with the letter of one option. {THINK_THEN_ANSWER}"
    )
    assert (yes_no.id, yes_no.type, yes_no.answer, yes_no.label(0)) == ("2", "yes/no", 0, "yes")
    assert yes_no.prompt() == f"Is there blur? Answer with yes or no. {THINK_THEN_ANSWER}"
    assert (yes_no.choice_of("<answer>yes</answer>"), yes_no.choice_of("<answer>A</answer>")) == (0, None)
    assert choice.label(None) is None


def test_an_answer_may_be_given_by_its_text(tmp_path):
    assert read_questions(written(tmp_path, CHOICE | {"answer": "noise"})).questions[0].answer == 0


def test_finevd_options_are_taken_out_of_the_question(tmp_path):
    asked = "Please select one distortion type from below options{A:[None], B:[low saturation], C:[moire pattern]}Just…"
    read = read_questions(written(tmp_path, finevd(asked, "B", video="\ufeffa.mp4")))
    (question,) = read.questions
    assert question.video == "a.mp4"
    assert question.text == "Please select one distortion type from below options"
    assert question.options == ("None", "low saturation", "moire pattern")
    assert (question.answer, question.type) == (1, "which distortion")
    assert question.chance == pytest.approx(1 / 3)


def test_finevd_yes_no_questions_are_typed_by_what_they_ask_for(tmp_path):
    asked = "If there is no color distortion in the video, please answer [No].If there is …, please answer [Yes]. "
    (question,) = read_questions(written(tmp_path, finevd(asked, "No"))).questions
    assert (question.type, question.letters, question.label(question.answer)) == (
        "yes/no: color distortion",
        False,
        "no",
    )


def test_q_bench_video_asks_what_it_can_and_counts_the_rest(tmp_path):
    rows = [
        q_bench_video(),
        q_bench_video(question_type=["yes-or-no", "Technical"], answers=["Yes", "No"], correct_choice="A."),
        q_bench_video(question_type="open_ended", answers=[]),
        q_bench_video(video_name="a.mp4_cat_b.mp4.mp4"),
        q_bench_video(context="Compare"),
        q_bench_video(context="Joint"),
    ]
    path = tmp_path / "list.json"
    path.write_text(json.dumps(rows))
    read = read_questions(path)
    assert [(question.id, question.type, question.answer) for question in read.questions] == [
        ("1", "what/how", 2),
        ("2", "yes-or-no", 0),
    ]
    assert read.skipped == {"open-ended questions": 1, "questions about a pair of videos": 3}
    assert read.rejects == []


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ([], "expected a JSON object, got list"),
        ({"question": "?", "answer": "yes"}, "video: expected text, got None"),
        ({"video": "a.mp4", "answer": "yes"}, "question: expected text, got None"),
        ({"video": "a.mp4", "question": "?"}, "answer: expected text, got None"),
        (YES_NO | {"answer": "maybe"}, "answer: expected yes or no, got 'maybe'"),
        (YES_NO | {"answer": True}, "answer: expected text, got True"),
        (CHOICE | {"answer": "C"}, r"answer: expected a letter or the text of one of \['Noise', 'Blur'\], got 'C'"),
        (CHOICE | {"options": ["B", "Blur"]}, "answer: expected a letter or the text of one of"),
        (CHOICE | {"options": ["Blur"], "answer": "A"}, "options: expected 2 to 26, got 1"),
        (CHOICE | {"options": "Blur"}, "options: expected a list of texts, got 'Blur'"),
        (CHOICE | {"options": ["-1", "1"], "answer": "A"}, "options: expected texts that differ in their words"),
        (CHOICE | {"options": ["Noise", "…"], "answer": "A"}, "options: expected texts that differ in their words"),
        (CHOICE | {"id": ["x"]}, "id: expected text"),
        ({"video": "a.mp4", "conversations": []}, "conversations: expected a question and its answer"),
        (finevd("Which? {A:[x], C:[y]}", "A"), "expected options as in"),
        (finevd("Which? {A:[x], B:[y}", "A"), "expected options as in"),
        (finevd("How would you rate it?", "fair"), "the answer: expected yes or no, got 'fair'"),
        (q_bench_video(correct_choice=None), "correct_choice: expected text, got None"),
        (q_bench_video(question_type=3), "question_type: expected text, got 3"),
    ],
)
def test_a_row_at_fault_is_named_and_left_out(tmp_path, row, reason):
    read = read_questions(written(tmp_path, YES_NO, row))
    assert len(read.questions) == 1
    (reject,) = read.rejects
    assert reject.startswith("questions.jsonl: line 2: ")
    assert re.search(reason, reject)


def test_an_id_used_twice_is_a_fault_of_the_second_row(tmp_path):
    read = read_questions(written(tmp_path, YES_NO | {"id": "x"}, YES_NO | {"id": "x"}))
    assert read.rejects == [
        "questions.jsonl: line 2: id: 'x' is that of questions.jsonl: line 1 already; expected one of its own"
    ]


def test_a_file_without_any_question_is_refused_with_the_reason(tmp_path):
    with pytest.raises(QuestionError, match=r"no question that can be asked .*the file is empty"):
        read_questions(written(tmp_path))
    with pytest.raises(QuestionError, match="1 open-ended questions"):
        read_questions(written(tmp_path, q_bench_video(question_type="open_ended")))
    (tmp_path / "questions.jsonl").write_text('{"video": ')
    with pytest.raises(QuestionError, match="line 1: expected JSON"):
        read_questions(tmp_path / "questions.jsonl")
    with pytest.raises(QuestionError, match="cannot be read"):
        read_questions(tmp_path / "absent.jsonl")
