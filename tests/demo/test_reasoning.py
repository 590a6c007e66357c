import json
import math

import numpy as np
import pytest

from vqathinker_verl.cli.main import main
from vqathinker_verl.demo.degradations import DISTORTION_WORDS
from vqathinker_verl.demo.reasoning import findings, read_reasoning, read_truth, words_table
from vqathinker_verl.evaluation.records import Prediction
from vqathinker_verl.understanding.questions import QuestionError


def said(words, score="3.00"):
    return f"<think>It looks {words}</think><answer>{score}</answer>"


def predictions(*responses_of_clips):
    return [
        Prediction(f"line {n}", f"demo/{n}.mp4", math.nan, tuple(responses))
        for n, responses in enumerate(responses_of_clips)
    ]


def named_of(truths, *responses_of_clips):
    truth = {f"{n}.mp4": kind for n, kind in enumerate(truths)}
    return read_reasoning(predictions(*responses_of_clips), truth)


def test_what_a_response_names():
    named, unknown = named_of(
        ["blur", "noise"],
        [said("very smeared", "1.50"), said("sharp"), said("dark and grainy"), said("fine", "x")],
        [],
    )
    assert unknown == []
    assert [(n.truth, n.named, n.several, n.degree) for n in named] == [
        ("blur", "blur", False, "very"),
        ("blur", "pristine", False, None),
        ("blur", None, True, None),
        ("blur", None, False, None),
    ]
    assert [n.score for n in named[:3]] == [1.5, 3.0, 3.0]
    assert math.isnan(named[3].score)


def test_videos_without_a_label_are_named():
    named, unknown = read_reasoning(predictions([said("dark")], [said("dark")]), {"1.mp4": "blur"})
    assert len(named) == 1
    assert unknown == ["line 0: no label for demo/0.mp4"]


def test_figures_by_hand():
    # Two clips, blur and pristine, two responses each.
    named, _ = named_of(
        ["blur", "pristine"],
        [said("slightly smeared", "2.00"), said("very grainy", "1.00")],
        [said("sharp", "4.00"), said("fine", "none")],
    )
    metrics = {name: metric.value for name, metric in findings(named).items()}
    assert metrics["names_one"] == 3 / 4
    assert metrics["names_several"] == 0
    assert metrics["named_right"] == 2 / 4
    assert metrics["named_right_chance"] == pytest.approx(1 / 4 * 2 / 4 + 1 / 4 * 2 / 4)  # smeared, sharp
    assert metrics["distortion_right"] == 1 / 2
    assert metrics["distortion_right_chance"] == pytest.approx(1 / 4 * 2 / 4 * 4 / 2)  # one of two named is blur
    assert metrics["score_named"] == 1.5
    assert metrics["score_rest"] == 4.0  # the response without a score is left out
    assert metrics["score_difference"] == -2.5
    assert (metrics["score_slightly"], metrics["score_very"]) == (2.0, 1.0)
    assert math.isnan(metrics["score_clearly"])


def test_blind_words_are_right_as_often_as_chance_says():
    rng = np.random.default_rng(0)
    kinds = list(DISTORTION_WORDS)
    truths = rng.choice(kinds, 2000)
    named, _ = named_of(truths, *([said(DISTORTION_WORDS[kind])] for kind in rng.choice(kinds, 2000)))
    metrics = findings(named, num_resamples=200)
    right, chance = metrics["named_right"], metrics["named_right_chance"]
    assert right.low < chance.value < right.high
    assert chance.value == pytest.approx(1 / len(kinds), abs=0.005)


def test_interval_counts_clips_and_not_responses():
    one = [[said("dark")] if n % 2 else [said("sharp")] for n in range(40)]
    few, _ = named_of(["darkness"] * 40, *one)
    many, _ = named_of(["darkness"] * 40, *(responses * 25 for responses in one))
    width = [findings(named)["named_right"].high - findings(named)["named_right"].low for named in (few, many)]
    assert width[0] == pytest.approx(width[1])
    assert width[0] > 0.2


def test_words_table():
    named, _ = named_of(["blur", "noise"], [said("smeared", "2.00")], [said("smeared", "3.00")])
    rows = {row["distortion"]: row for row in words_table(named)}
    assert (rows["blur"]["true"], rows["blur"]["named"], rows["blur"]["right"]) == (1, 2, 1)
    assert rows["blur"]["mean_score"] == 2.5
    assert rows["noise"]["mean_score"] is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("video,mos\na.mp4,3\n", "line 2: expected video and distortion"),
        ("video,distortion\na.mp4,fog\n", "line 2: expected video and distortion, one of pristine"),
        ("video,distortion\na.mp4,blur\nx/a.mp4,blur\n", "line 3: a second clip named a.mp4"),
        ("video,distortion\n", "no labels in the file"),
    ],
)
def test_labels_at_fault_are_named(tmp_path, text, reason):
    (tmp_path / "val.csv").write_text(text)
    with pytest.raises(QuestionError, match=reason):
        read_truth(tmp_path / "val.csv")


def test_command_reads_predictions_and_verls_dump(tmp_path, capsys):
    (tmp_path / "val.csv").write_text("video,mos,distortion\na.mp4,50,blur\nb.mp4,95,pristine\n")
    rows = [
        {"video_id": "a.mp4", "pred_mos": 2.0, "response": said("very smeared", "2.00"), "error": None},
        {"video_id": "b.mp4", "pred_mos": 4.0, "response": said("sharp", "4.00"), "error": None},
    ]
    dump = [
        {"uid": f"{row['video_id']}_{n}_0", "video_id": f"demo/{row['video_id']}", "mos": 3.0, "pred_mos": 3.0,
         "output": row["response"]}
        for row in rows for n in range(2)
    ]  # fmt: skip
    for name, members, count in (("scored", rows, 2), ("dump", dump, 4)):
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in members))
        output = tmp_path / f"{name}.json"
        command = ["reasoning", str(path), "--labels", str(tmp_path / "val.csv"), "--output", str(output)]
        assert main(command) == 0
        printed = capsys.readouterr().out
        assert f"{count} responses to 2 clips" in printed
        assert "names the true one 1.000" in " ".join(printed.split())
        facts = json.loads(output.read_text())
        assert facts["metrics"]["score_difference"]["value"] == -2.0
        assert facts["metrics"]["named_right_chance"] == {"value": 0.5, "low": None, "high": None}

    rows.append({"video_id": "c.mp4", "pred_mos": 4.0, "response": "", "error": None})
    path = tmp_path / "scored.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["reasoning", str(path), "--labels", str(tmp_path / "val.csv")]) == 1
    assert "no label for c.mp4" in capsys.readouterr().err
    assert main(["reasoning", str(tmp_path / "absent"), "--labels", str(tmp_path / "val.csv")]) == 2
    path.write_text(json.dumps(rows[-1]) + "\n")
    assert main(["reasoning", str(path), "--labels", str(tmp_path / "val.csv")]) == 2
    assert "no response to a clip of" in capsys.readouterr().err
