import json

import pytest

from vqathinker_verl.cli.main import main
from vqathinker_verl.demo.clips import plan_split
from vqathinker_verl.demo.questions import write_questions
from vqathinker_verl.understanding.questions import read_questions

TINY = ["--backend", "transformers", "--num-frames", "3", "--max-pixels", "3136", "--max-tokens", "8"]


def lines_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def written(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def yes_no(video, answer="yes", **more):
    return {"video": video, "question": f"Is {video} blurred?", "answer": answer} | more


@pytest.fixture
def first_two(videos):
    return sorted(path.name for path in videos.glob("*.mp4"))[:2]


def understand(questions, videos, output, *options):
    return main(["understand", str(questions), "--video-root", str(videos), "--output", str(output), *options])


@pytest.mark.parametrize("video", ["../x.mp4", "/etc/passwd", "link/x.mp4"])
def test_a_question_about_a_file_outside_the_video_root_is_refused(tmp_path, capsys, told, video):
    engine = told(lambda video, prompt: "<answer>yes</answer>")
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(tmp_path)
    questions = written(tmp_path / "q.jsonl", yes_no(video))
    assert understand(questions, root, tmp_path / "answers.jsonl", "--model", "m") == 2
    error = capsys.readouterr().err
    assert "question '1'" in error
    assert "leaves the video root" in error
    assert engine.asked == []


def test_right_wrong_and_no_answer(tmp_path, capsys, videos, first_two, told):
    a, b = first_two
    questions = written(
        tmp_path / "q.jsonl",
        yes_no(a),
        yes_no(b, answer="no"),
        {"video": b, "question": "Which?", "options": ["Noise", "Blur", "None"], "answer": "C", "type": "which"},
    )
    told(lambda video, prompt: "<answer>yes</answer>" if "blurred" in prompt else "<answer>A or C</answer>")
    output = tmp_path / "out" / "answers.jsonl"
    assert understand(questions, videos, output, "--model", "m") == 0
    rows = lines_of(output)
    assert [row["id"] for row in rows] == ["1", "2", "3"]
    assert [(row["choice"], row["answer"]) for row in rows] == [("yes", "yes"), ("yes", "no"), (None, "C")]
    assert rows[2]["prompt"].startswith("Which?\nA. Noise\nB. Blur\nC. None\n")
    summary = json.loads((tmp_path / "out" / "answers.summary.json").read_text())
    assert summary["types"]["yes/no"]["accuracy"] == 0.5
    assert summary["types"]["which"]["no_answer"] == 1
    assert summary["overall"]["correct"] == 1
    assert summary["overall"]["chance"] == pytest.approx((0.5 + 0.5 + 1 / 3) / 3)
    assert "overall" in capsys.readouterr().out

    # The answers alone give the same metrics, without a model.
    again = tmp_path / "again.jsonl"
    assert understand(questions, videos, again, "--answers", str(output)) == 0
    assert lines_of(again) == rows
    assert json.loads((tmp_path / "again.summary.json").read_text())["types"] == summary["types"]


def test_a_run_goes_on_asks_the_broken_again_and_keeps_to_its_settings(tmp_path, capsys, videos, first_two, told):
    a, b = first_two
    folder = tmp_path / "videos"
    folder.mkdir()
    (folder / a).write_bytes((videos / a).read_bytes())
    (folder / b).write_text("no video")
    questions = written(tmp_path / "q.jsonl", yes_no(b), yes_no(a), yes_no("absent.mp4"))
    engine = told(lambda video, prompt: "<answer>yes</answer>")
    output = tmp_path / "answers.jsonl"
    assert understand(questions, folder, output, "--model", "m") == 1
    printed = capsys.readouterr()
    assert "videos without an answer: 2" in printed.err
    assert b in printed.err
    assert "absent.mp4" in printed.err
    assert [row["error"] is None for row in lines_of(output)] == [False, True, False]
    summary = json.loads((tmp_path / "answers.summary.json").read_text())
    assert summary["overall"]["questions"] == 1  # what could not be shown is neither right nor wrong

    (folder / b).write_bytes((videos / b).read_bytes())
    output.write_text(output.read_text() + '{"id": "cut')  # a kill in the middle of a line
    engine.asked.clear()
    assert understand(questions, folder, output, "--model", "m") == 1
    assert [name for name, _ in engine.asked] == [b, "absent.mp4"]
    assert [row["id"] for row in lines_of(output)] == ["1", "2", "3"]

    (folder / "absent.mp4").write_bytes((videos / a).read_bytes())
    assert understand(questions, folder, output, "--model", "m") == 0
    engine.asked.clear()
    assert understand(questions, folder, output, "--model", "m") == 0
    assert engine.asked == []

    capsys.readouterr()
    assert understand(questions, folder, output, "--model", "m", "--max-tokens", "9") == 2
    assert "made with sampling" in capsys.readouterr().err
    written(questions, yes_no(a))
    assert understand(questions, folder, output, "--model", "m") == 2
    assert "made with prompt" in capsys.readouterr().err


def test_rows_left_out_are_named_and_tell_in_the_exit_code(tmp_path, capsys, videos, first_two, told):
    questions = written(tmp_path / "q.jsonl", yes_no(first_two[0]), yes_no("x.mp4", answer="perhaps"))
    told(lambda video, prompt: "<answer>yes</answer>")
    assert understand(questions, videos, tmp_path / "answers.jsonl", "--model", "m") == 1
    assert "q.jsonl: line 2: answer: expected yes or no, got 'perhaps'" in capsys.readouterr().err


def test_answers_that_fit_nothing_are_named(tmp_path, capsys):
    questions = written(tmp_path / "q.jsonl", yes_no("a.mp4", id="a"), yes_no("b.mp4", id="b"))
    answers = written(tmp_path / "a.jsonl", {"id": "a", "response": "<answer>No</answer>"}, {"id": "z", "response": ""})
    assert understand(questions, tmp_path, tmp_path / "out.jsonl", "--answers", str(answers)) == 1
    printed = capsys.readouterr()
    assert "no question has the id 'z'" in printed.err
    assert "no answer to 'b'" in printed.err
    assert [row["choice"] for row in lines_of(tmp_path / "out.jsonl")] == ["no"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"response": "x"}, "expected a JSON object with id and response"),
        ({"id": "1", "response": 3}, "response: expected text, got 3"),
        ("yes", "expected a JSON object with id and response"),
        ([], "no answer in it has the id of a question"),
        ({"id": "z", "response": "x"}, "no answer in it has the id of a question"),
    ],
)
def test_an_answers_file_at_fault_is_refused(tmp_path, capsys, row, reason):
    questions = written(tmp_path / "q.jsonl", yes_no("a.mp4"))
    answers = written(tmp_path / "a.jsonl", row)
    assert understand(questions, tmp_path, tmp_path / "out.jsonl", "--answers", str(answers)) == 2
    assert reason in capsys.readouterr().err
    assert not (tmp_path / "out.jsonl").exists()


def test_wrong_use_is_told_in_one_line(tmp_path, capsys, videos):
    clip = min(videos.glob("*.mp4"))
    (tmp_path / clip.name).write_bytes(clip.read_bytes())
    questions = written(tmp_path / "q.jsonl", yes_no(clip.name))
    answers = written(tmp_path / "a.jsonl", {"id": "1", "response": ""}, {"id": 1, "response": ""})
    output = tmp_path / "out.jsonl"
    for options, reason in (
        ([], "expected either --model or --answers"),
        (["--model", "m", "--answers", str(answers)], "expected either --model or --answers"),
        (["--answers", str(answers)], "id '1' has an answer already"),
        (["--answers", str(output)], "--output would overwrite the answers"),
        (["--model", "m", "--server", "http://127.0.0.1:9", "--num-frames", "0"], "num_frames: expected at least 1"),
        (["--model", str(tmp_path / "none"), "--backend", "transformers"], "no such folder"),
    ):
        assert understand(questions, tmp_path, output, *options) == 2
        error = capsys.readouterr().err
        assert error.startswith("vqathinker understand: ")
        assert reason in error
    assert understand(tmp_path / "absent.jsonl", tmp_path, output, "--model", "m") == 2


def test_answers_of_a_model_are_not_overwritten_by_those_of_a_file(tmp_path, capsys, videos, first_two, told):
    questions = written(tmp_path / "q.jsonl", yes_no(first_two[0]))
    told(lambda video, prompt: "<answer>yes</answer>")
    output = tmp_path / "answers.jsonl"
    assert understand(questions, videos, output, "--model", "m") == 0
    answers = written(tmp_path / "a.jsonl", {"id": "1", "response": ""})
    assert understand(questions, videos, output, "--answers", str(answers)) == 2
    assert "holds answers of a model" in capsys.readouterr().err


def test_who_knows_the_demo_answers_all_of_its_questions(tmp_path, videos, told):
    questions = tmp_path / "questions.jsonl"
    write_questions(plan_split("val", 7, 0), 0, questions)
    right = {(q.video, q.prompt()): q.label(q.answer) for q in read_questions(questions).questions}
    told(lambda video, prompt: f"<think>…</think><answer>{right[video, prompt]}</answer>")
    output = tmp_path / "answers.jsonl"
    assert understand(questions, videos, output, "--model", "m") == 0
    summary = json.loads((tmp_path / "answers.summary.json").read_text())
    assert summary["overall"]["accuracy"] == 1.0
    assert summary["types"]["yes/no"]["commonest"] == 0.5


def test_a_real_model_is_asked_without_a_gpu(tmp_path, videos, tiny_model):
    questions = tmp_path / "questions.jsonl"
    write_questions(plan_split("val", 7, 0), 0, questions)
    output = tmp_path / "answers.jsonl"
    assert understand(questions, videos, output, "--model", str(tiny_model), *TINY) == 0
    rows = lines_of(output)
    assert len(rows) == 21
    assert all(isinstance(row["response"], str) and row["error"] is None for row in rows)
    assert len({row["response"] for row in rows}) > 1  # it babbles, but it sees
