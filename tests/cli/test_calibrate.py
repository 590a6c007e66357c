"""`vqathinker calibrate`, and the scores that its file changes: by the command, in Python and in `evaluate`."""

import json

import numpy as np
import pytest
from helpers.evaluation_files import write_jsonl, write_labels

from vqathinker_verl import VideoScorer, rmse_raw, srcc
from vqathinker_verl.cli.main import main
from vqathinker_verl.inference.calibration import Calibration, read_calibration
from vqathinker_verl.inference.predictions import Prediction
from vqathinker_verl.metrics.calibration import MonotoneMap

SMALL = ["--backend", "transformers", "--num-frames", "2", "--max-pixels", "3136", "--max-tokens", "4"]
ASK = [*SMALL, "--no-thinking", "--scoring", "expectation"]
OPTIONS = {"num_frames": 2, "max_pixels": 3136, "max_tokens": 4, "thinking": False, "scoring": "expectation"}


def files(tmp_path, num_videos=60, num_labels=50, **settings):
    """Scores that use a narrow part of the scale, their labels, and the settings that they were made with."""
    rng = np.random.default_rng(3)
    mos = rng.uniform(1.3, 4.7, num_videos)
    scores = 3.2 + 0.2 * (mos - 3) + rng.normal(0, 0.04, num_videos)
    names = [f"v{number}.mp4" for number in range(num_videos)]
    rows = [{"video_id": name, "pred_mos": float(score)} for name, score in zip(names, scores, strict=True)]
    predictions = write_jsonl(tmp_path / "scores.jsonl", rows)
    labels = write_labels(tmp_path / "mos.csv", dict(zip(names[:num_labels], mos, strict=False)))
    if settings:
        (tmp_path / "scores.jsonl.settings.json").write_text(json.dumps(settings))
    return predictions, labels, scores, mos


def calibrate(predictions, labels, output, *more):
    call = ["calibrate", predictions, "--labels", labels, "--dataset", "own", "--scale", 1, 5, "--output", output]
    return main([*map(str, call), *map(str, more)])


def test_it_writes_a_map_that_helps_on_labels_it_has_not_seen(tmp_path, capsys):
    predictions, labels, scores, mos = files(tmp_path)
    output = tmp_path / "out" / "calibration.json"
    assert calibrate(predictions, labels, output) == 0
    said = capsys.readouterr()
    assert "map of 50 labelled videos" in said.out
    assert "does not say of which model it is" in said.err
    facts = json.loads(output.read_text())
    assert (facts["num_videos"], facts["made_with"]) == (50, None)
    assert facts["labels"] == {"files": ["mos.csv"], "benchmarks": ["own"], "scale": [1.0, 5.0], "mapped_to": [1, 5]}
    cross = facts["cross_validation"]
    assert cross["rmse_after"] < cross["rmse_before"]
    mapped = read_calibration(output).map(scores[50:])
    assert rmse_raw(mapped, mos[50:]) < rmse_raw(scores[50:], mos[50:])
    assert abs(srcc(mapped, mos[50:]) - srcc(scores[50:], mos[50:])) <= 1e-12
    before = output.read_bytes()
    assert calibrate(predictions, labels, output) == 0
    assert output.read_bytes() == before


def test_labels_on_another_scale_and_direction_are_read_as_evaluate_reads_them(tmp_path, capsys):
    predictions, labels, *_ = files(tmp_path)
    output = tmp_path / "calibration.json"
    assert calibrate(predictions, labels, output) == 0
    same = json.loads(output.read_text())["parameters"]
    rows = [line.split(",") for line in labels.read_text().splitlines()[1:]]
    labels.write_text("clip;dmos\n" + "".join(f"{name};{(5 - float(mos)) * 25!r}\n" for name, mos in rows))
    call = ["calibrate", predictions, "--labels", labels, "--dataset", "own", "--scale", 0, 100, "--lower-is-better"]
    assert main([*map(str, call), "--video-column", "clip", "--mos-column", "dmos", "--output", str(output)]) == 0
    found = json.loads(output.read_text())["parameters"]
    assert {name: pytest.approx(value) for name, value in same.items()} == found


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda scores, mos: (scores[:6], mos[:6]), "6 videos have a score and a label; expected at least 10"),
        (lambda scores, mos: (scores, 0 * mos + 3), "all 20 labels are 3"),
        (lambda scores, mos: (scores, 6 - mos), "do not rise with the labels"),
    ],
    ids=["few", "constant", "against"],
)
def test_labels_that_give_no_calibration_end_in_one_line(tmp_path, capsys, change, said):
    mos = np.linspace(1.5, 4.5, 20)
    scores, mos = change(np.round(0.5 * mos + 1.5, 2), mos)
    rows = [{"video_id": f"{n}.mp4", "pred_mos": float(score)} for n, score in enumerate(scores)]
    predictions = write_jsonl(tmp_path / "p.jsonl", rows)
    labels = write_labels(tmp_path / "mos.csv", {f"{n}.mp4": value for n, value in enumerate(mos)})
    assert calibrate(predictions, labels, tmp_path / "c.json") == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert not (tmp_path / "c.json").exists()


def test_labelled_videos_without_a_score_are_named(tmp_path, capsys):
    predictions, labels, *_ = files(tmp_path, num_videos=30, num_labels=30)
    rows = [json.loads(line) for line in predictions.read_text().splitlines()]
    rows[3]["pred_mos"] = None
    write_jsonl(predictions, rows[:-1])
    assert calibrate(predictions, labels, tmp_path / "c.json") == 1
    err = capsys.readouterr().err
    assert "left out: 2" in err
    assert "own/v3.mp4" in err
    assert "own/v29.mp4" in err
    write_jsonl(predictions, [row | {"pred_mos_raw": 3.0} for row in rows])
    assert calibrate(predictions, labels, tmp_path / "c.json") == 2
    assert "v0.mp4 has a calibrated score already" in capsys.readouterr().err


@pytest.fixture
def calibration(tmp_path, tiny_model, clips, capfd):
    """A map for the tiny model as ASK asks it; its labels are made up, since the model knows nothing."""
    output = tmp_path / "raw.jsonl"
    assert main(["score", *map(str, clips), "--model", str(tiny_model), *ASK, "--output", str(output)]) == 0
    capfd.readouterr()
    path = tmp_path / "calibration.json"
    path.write_text(
        json.dumps(
            {
                "kind": "isotonic",
                "parameters": {"scores": [1.0, 5.0], "mos": [1.5, 3.0]},
                "num_videos": 50,
                "made_with": json.loads((tmp_path / "raw.jsonl.settings.json").read_text()),
            }
        )
    )
    raw = [json.loads(line) for line in output.read_text().splitlines()]
    return path, raw


def test_calibrated_scores_keep_the_score_before(calibration, tiny_model, clips, tmp_path, capfd):
    path, raw = calibration
    fitted = read_calibration(path).map
    output = tmp_path / "calibrated.jsonl"
    call = ["score", *map(str, clips), "--model", str(tiny_model), *ASK, "--calibration", str(path)]
    assert main([*call, "--output", str(output)]) == 0
    assert f"scores are calibrated by {path} (isotonic, 50 labelled videos)" in capfd.readouterr().err
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    for line, before in zip(lines, raw, strict=True):
        assert line["pred_mos_raw"] == before["pred_mos"]
        assert line["pred_mos"] == float(fitted([before["pred_mos"]])[0])
        assert line["pred_mos_std"] == fitted.spread(before["pred_mos"], before["pred_mos_std"])
        assert {key: line[key] for key in ("response", "legal_mass")} == {
            key: before[key] for key in ("response", "legal_mass")
        }
    assert main([*call, "--format", "table"]) == 0
    assert "scores and spreads are calibrated" in capfd.readouterr().out
    # Lines of another calibration, or of none, are not mixed with these.
    assert main([*call[:-2], "--output", str(output)]) == 2
    assert "made with calibration = " in capfd.readouterr().err

    with VideoScorer(tiny_model, engine="transformers", calibration=path, **OPTIONS) as scorer:
        assert scorer(clips).tolist() == [line["pred_mos"] for line in lines]
        found = scorer.score(clips[0])
        assert (found.score, found.pred_mos_raw) == (lines[0]["pred_mos"], raw[0]["pred_mos"])
        with_map = scorer.compare(clips[0], clips[1])
    with VideoScorer(tiny_model, engine="transformers", **OPTIONS) as scorer:
        assert scorer.compare(clips[0], clips[1]) == with_map


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"prompt": "Another?"}, "made with prompt = 'Another?'"),
        ({"frames": {"num_frames": 12}}, "made with frames."),
        ({"samples": 8}, "made with samples = 8, asked for 1"),
        ({"model": {"name": "other", "weights": {"model.safetensors": "0"}}}, "made for another model (other)"),
    ],
)
def test_a_calibration_of_other_settings_is_refused(calibration, tiny_model, clips, capfd, change, said):
    path, _ = calibration
    facts = json.loads(path.read_text())
    facts["made_with"] |= change
    path.write_text(json.dumps(facts))
    call = ["score", str(clips[0]), "--model", str(tiny_model), *ASK, "--calibration", str(path)]
    assert main(call) == 2
    assert said in capfd.readouterr().err


def test_what_is_not_known_of_the_model_is_a_warning(capsys):
    fitted = MonotoneMap("isotonic", (1.0, 5.0, 1.5, 3.0))
    settings = {"model": {"name": "a"}, "prompt": "Q", "frames": {}, "sampling": {"seed": 1}, "samples": 1}
    Calibration("c.json", fitted, 50).check(settings)
    assert "does not say of which model" in capsys.readouterr().err
    Calibration("c.json", fitted, 50, settings | {"sampling": {"seed": 2}, "backend": "vllm"}).check(settings)
    assert capsys.readouterr().err == ""
    Calibration("c.json", fitted, 50, settings | {"model": {"name": "b"}}).check(settings)
    assert "made for another model (b), asked for a; their weights cannot be compared" in capsys.readouterr().err


def test_an_answer_without_a_score_stays_without():
    line = Calibration("c.json", MonotoneMap("isotonic", (2.0, 2.5)), 50).apply(Prediction("", "a", np.nan)).as_json()
    assert (line["pred_mos"], line["pred_mos_raw"]) == (None, None)
    assert Prediction.from_json(line).pred_mos_raw is not None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "No such file"),
        ("junk", "expected a file that `vqathinker calibrate` wrote"),
        ("[]", "expected a JSON object, got list"),
        ("{}", "no kind in the file"),
        ('{"kind": "cubic", "parameters": {}, "num_videos": 9}', "expected one of logistic, isotonic"),
        ('{"kind": "logistic", "parameters": {"lower": 1}, "num_videos": 9}', "no upper in the file"),
        ('{"kind": "isotonic", "parameters": {"scores": [1], "mos": []}, "num_videos": 9}', "as many mos as scores"),
    ],
)
def test_a_faulty_file_is_refused_before_the_model_is_loaded(tmp_path, tiny_model, clips, capsys, content, said):
    path = tmp_path / "c.json"
    if content is not None:
        path.write_text(content)
    call = ["score", str(clips[0]), "--model", str(tiny_model), *ASK, "--calibration", str(path)]
    assert main(call) == 2
    assert said in (err := capsys.readouterr().err)
    assert str(path) in err
    assert err.count("\n") == 1


def test_evaluate_says_that_scores_are_calibrated(tmp_path, tiny_model, clips, calibration, capfd):
    path, raw = calibration
    labels = write_labels(tmp_path / "mos.csv", {clip.name: 2.0 + k for k, clip in enumerate(clips)})
    call = ["evaluate", "--labels", str(labels), "--dataset", "own", "--scale", "1", "5", "--bootstrap-samples", "5"]
    call += ["--output-dir", str(tmp_path / "out")]
    asked = ["--model", str(tiny_model), *ASK, "--video-root", str(clips[0].parent), "--calibration", str(path)]
    main([*call, *asked])
    assert f"model: scores are calibrated by {path} (isotonic, 50 labelled videos)" in capfd.readouterr().out
    found = [json.loads(line) for line in (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()]
    assert [line["pred_mos_raw"] for line in found] == [line["pred_mos"] for line in raw]
    main([*call, str(tmp_path / "out" / "predictions.jsonl")])
    assert "predictions: 3 of 3 scores are calibrated" in capfd.readouterr().out
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text())["notes"][0].endswith("are calibrated")
