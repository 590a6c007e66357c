import json
import math

import pytest
from helpers.evaluation_files import write_jsonl

from vqathinker_verl.evaluation.predictions import read_predictions
from vqathinker_verl.evaluation.records import EvaluationError


def test_the_file_of_score(tmp_path):
    rows = [
        {"video_id": "a.mp4", "video": "/v/a.mp4", "pred_mos": 3.42, "response": "r", "frames": 12, "error": None},
        {
            "video_id": "b.mp4",
            "video": "/v/b.mp4",
            "pred_mos": None,
            "response": "no idea",
            "frames": 12,
            "error": None,
        },
        {"video_id": "c.mp4", "video": "/v/c.mp4", "pred_mos": None, "response": None, "frames": 12, "error": "empty"},
        {"video_id": "d.mp4", "pred_mos": 3.0, "samples": [2.0, 4.0], "responses": ["x", "y"], "pred_mos_std": 1.0},
    ]
    a, b, c, d = read_predictions(write_jsonl(tmp_path / "p.jsonl", rows))
    assert (a.video_id, a.pred_mos, a.responses, a.path, a.error) == ("a.mp4", 3.42, ("r",), "/v/a.mp4", None)
    assert not b.scored
    assert (c.scored, c.error, c.responses) == (False, "empty", ())
    assert d.responses == ("x", "y")


@pytest.mark.parametrize("cell", ["", "nan", "None", "NULL"])
def test_a_table_and_its_cells_without_a_score(tmp_path, cell):
    path = tmp_path / "p.csv"
    path.write_text(f"video_id,pred_mos,response\n7.mp4,3.5,fine\n8.mp4,{cell},\n")
    first, second = read_predictions(path)
    assert (first.video_id, first.pred_mos, first.responses) == ("7.mp4", 3.5, ("fine",))
    assert math.isnan(second.pred_mos)
    assert second.responses == ()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("p.jsonl", "", "no predictions in the file"),
        ("p.jsonl", '{"video_id": "a", "pred_mos": 1}\n{"video_', "line 2: expected a JSON object .* cut off"),
        ("p.jsonl", "[1]\n", "line 1: expected a JSON object, got list"),
        ("p.jsonl", '{"pred_mos": 1}\n', "line 1: video_id: expected the video's name, got None"),
        ("p.jsonl", '{"video_id": "a"}\n', "line 1: no pred_mos"),
        ("p.jsonl", '{"video_id": "a", "pred_mos": "3.0"}\n', "expected a finite number, or null .*, got '3.0'"),
        ("p.jsonl", '{"video_id": "a", "pred_mos": true}\n', "got True"),
        ("p.jsonl", '{"video_id": "a", "pred_mos": Infinity}\n', "got inf"),
        ("p.jsonl", '{"video_id": "a", "pred_mos": 1, "response": [1]}\n', "response: expected text"),
        ("p.jsonl", '{"video_id": "a", "pred_mos": 1, "mos": NaN}\n', "mos: expected a finite number"),
        ("p.jsonl", '{"video_id": "a", "pred_mos": 1}\n' * 2, "line 2: a has a prediction already .*line 1"),
        ("p.csv", "video,pred_mos\na,1\n", "no column 'video_id'"),
        ("p.csv", "video_id,pred_mos\na,good\n", "line 2: pred_mos: expected a finite number.*'good'"),
    ],
)
def test_faulty_files_are_named_by_row_and_field(tmp_path, name, text, message):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(EvaluationError, match=message):
        read_predictions(path)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(EvaluationError, match="cannot be read"):
        read_predictions(tmp_path / "none.jsonl")


def answer(uid, pred_mos, mos=4.0, **more):
    return {
        "input": "q",
        "output": f"<answer>{pred_mos}</answer>",
        "gts": mos,
        "mos": mos,
        "pred_mos": pred_mos,
        "uid": uid,
    } | more


def test_answers_of_verls_dump_are_averaged_over_those_with_a_score(tmp_path):
    named = {"video_id": "demo/a.mp4", "data_source": "demo"}
    rows = [
        answer("11-22_0_0", 2.0, **named),
        answer("11-22_1_0", math.nan, **named),
        answer("11-22_2_0", 4.0, **named),
        answer("33-44_0_0", math.nan, 2.0, video_id="demo/b.mp4", data_source="demo"),
    ]
    a, b = read_predictions(write_jsonl(tmp_path / "30.jsonl", rows))
    assert (a.video_id, a.benchmark, a.pred_mos, a.mos, len(a.responses)) == ("demo/a.mp4", "demo", 3.0, 4.0, 3)
    assert not b.scored


def test_an_older_dump_is_grouped_by_its_prompts(tmp_path):
    rows = [answer("11-22_0_0", 2.0), answer("33-44_0_0", 5.0, 2.0), answer("11-22_1_0", 3.0)]
    a, b = read_predictions(write_jsonl(tmp_path / "30.jsonl", rows))
    assert (a.video_id, a.pred_mos, a.benchmark) == ("11-22", 2.5, None)
    assert (b.video_id, b.pred_mos, b.mos) == ("33-44", 5.0, 2.0)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([answer("1_0", 2.0), answer("1_1", 2.0, 3.0)], "line 2: mos 3.0; expected 4.0 as in 30.jsonl: line 1"),
        ([answer("1_0", 2.0, video_id="a"), answer("2_0", 2.0, video_id="a")], "a has a prediction already"),
        ([{"uid": "1_0", "output": "", "gts": 1}], "vqathinker_verl.config"),
    ],
)
def test_dumps_that_contradict_themselves(tmp_path, rows, message):
    with pytest.raises(EvaluationError, match=message):
        read_predictions(write_jsonl(tmp_path / "30.jsonl", rows))


def test_answers_are_counted_one_by_one(tmp_path):
    """A video of eight answers has a score though some of them have none."""
    path = tmp_path / "p.jsonl"
    rows = [
        {"video_id": "a.mp4", "pred_mos": 3.0, "samples": [3.0, None, 3.0, 3.0]},
        {"video_id": "b.mp4", "pred_mos": None, "samples": [None, None, None, None]},
        {"video_id": "c.mp4", "pred_mos": None},
        {"video_id": "d.mp4", "pred_mos": 2.0},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [prediction.answers for prediction in read_predictions(path)] == [(4, 1), (4, 4), (1, 1), (1, 0)]
    path.write_text('{"video_id": "a.mp4", "pred_mos": 3.0, "samples": 4}\n')
    with pytest.raises(EvaluationError, match="samples: expected a list of scores, got 4"):
        read_predictions(path)
