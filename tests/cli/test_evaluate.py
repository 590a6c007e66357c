import json
import math

import pytest
from helpers.evaluation_files import evaluate_cli, noisy, write_jsonl, write_labels

QUICK = ("--bootstrap-samples", 20)


@pytest.fixture
def files(tmp_path):
    """Labels of 20 videos, and predictions for all of them."""
    mos, pred = noisy(20)
    names = [f"{k:03}.mp4" for k in range(20)]
    labels = write_labels(tmp_path / "labels.csv", dict(zip(names, mos, strict=True)))
    rows = [{"video_id": n, "pred_mos": float(p), "response": "r"} for n, p in zip(names, pred, strict=True)]
    return labels, rows


def options(labels, *more):
    return ("--labels", labels, "--dataset", "mine", "--scale", 1, 5, *QUICK, *more)


def written(folder):
    return json.loads((folder / "evaluation.json").read_text())


def test_all_outputs(files, tmp_path, capsys):
    labels, rows = files
    path = write_jsonl(tmp_path / "model.jsonl", rows)
    assert evaluate_cli(path, *options(labels), "--output-dir", tmp_path / "out") == 0
    shown = capsys.readouterr().out
    assert "mine" in shown
    assert "warning" not in shown
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "evaluation.csv",
        "evaluation.json",
        "report.html",
        "table.tex",
    ]
    (model,) = written(tmp_path / "out")["models"]
    assert (model["name"], model["benchmarks"][0]["num_scored"]) == ("model", 20)


def test_what_does_not_match_is_counted_named_and_told_by_the_exit_code(files, tmp_path, capsys):
    labels, rows = files
    rows = [*rows[2:], {"video_id": "other.mp4", "pred_mos": 3.0}]
    rows[0] |= {"pred_mos": None, "error": "no frame can be decoded"}
    rows[1] |= {"pred_mos": None}
    path = write_jsonl(tmp_path / "model.jsonl", rows)
    assert evaluate_cli(path, *options(labels), "--output-dir", tmp_path / "out") == 1
    shown = capsys.readouterr().out
    assert "2 of 20 labelled videos have no prediction: mine/000.mp4, mine/001.mp4" in shown
    assert "1 of 20 videos failed: 002.mp4 (no frame can be decoded)" in shown
    assert "1 prediction without a label: other.mp4" in shown
    content = written(tmp_path / "out")["models"][0]
    assert content["unlabelled"] == ["other.mp4"]
    counts = content["benchmarks"][0]
    assert [counts[name] for name in ("num_scored", "num_unscored", "num_missing", "num_failed")] == [16, 1, 3, 1]
    assert counts["missing"] == ["mine/000.mp4", "mine/001.mp4", "mine/002.mp4"]


def test_names_that_differ_in_their_suffix_are_reported_with_the_option(files, tmp_path, capsys):
    labels, rows = files
    rows[3]["video_id"] = rows[3]["video_id"].replace(".mp4", ".mkv")
    path = write_jsonl(tmp_path / "model.jsonl", rows)
    assert evaluate_cli(path, *options(labels)) == 1
    assert "1 predictions have no label; 1 of the names differ" in (error := capsys.readouterr().err)
    assert "pass --ignore-suffix" in error
    assert evaluate_cli(path, *options(labels), "--ignore-suffix") == 0


def test_answers_without_a_score_are_no_fault_and_can_be_counted_as_the_middle(files, tmp_path, capsys):
    labels, rows = files
    rows[3]["pred_mos"] = None
    path = write_jsonl(tmp_path / "model.jsonl", rows)
    found = {}
    for way in ("exclude", "middle", "3.0"):
        assert evaluate_cli(path, *options(labels, "--missing-score", way), "--output-dir", tmp_path / way) == 0
        found[way] = written(tmp_path / way)["models"][0]["benchmarks"][0]
        assert found[way]["unscored_share"] == 0.05
    assert found["middle"] == found["3.0"]
    assert found["middle"]["metrics"]["srcc"]["value"] != found["exclude"]["metrics"]["srcc"]["value"]
    assert "1 answers without a score count as 3" in capsys.readouterr().out


def test_two_models(files, tmp_path, capsys):
    labels, rows = files
    path = write_jsonl(tmp_path / "good.jsonl", rows)
    worse = write_jsonl(tmp_path / "worse.jsonl", [row | {"pred_mos": 3 + k % 3 / 2} for k, row in enumerate(rows)])
    assert evaluate_cli(path, "--baseline", worse, *options(labels)) == 0
    assert "good less worse, paired" in capsys.readouterr().out


def test_one_file_a_benchmark(files, tmp_path, capsys):
    _, rows = files
    for name in ("one", "two"):
        write_labels(tmp_path / f"{name}.csv", {row["video_id"]: 1 + k / 5 for k, row in enumerate(rows)})
    sets = [{"labels": f"{name}.csv", "dataset": name, "scale": [1, 5]} for name in ("one", "two")]
    (tmp_path / "sets.json").write_text(json.dumps(sets))
    path = write_jsonl(tmp_path / "p.jsonl", rows)
    arguments = ("--label-sets", tmp_path / "sets.json", *QUICK)
    assert evaluate_cli(path, *arguments) == 2
    assert "000.mp4 fits videos of one and two" in capsys.readouterr().err
    assert evaluate_cli(f"one={path}", f"two={path}", *arguments) == 0
    assert "weighted by videos" in capsys.readouterr().out


def test_a_dump_of_verl_brings_its_own_labels(tmp_path, capsys):
    mos, pred = noisy(12)
    rows = [
        {
            "uid": f"u{k}_{n}_0",
            "output": "o",
            "gts": m,
            "mos": m,
            "pred_mos": p + n / 10,
            "video_id": f"demo/{k}",
            "data_source": "demo",
        }
        for k, (m, p) in enumerate(zip(mos, pred, strict=True))
        for n in range(2)
    ]
    rows[0]["pred_mos"] = math.nan
    path = write_jsonl(tmp_path / "30.jsonl", rows)
    assert evaluate_cli(path, *QUICK, "--output-dir", tmp_path / "out") == 0
    content = written(tmp_path / "out")["models"][0]["benchmarks"][0]
    assert (content["name"], content["num_scored"]) == ("demo", 12)
    assert "demo" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--missing-score", "random"), "--missing-score: expected exclude, middle or a score in [1, 5], got 'random'"),
        (("--missing-score", "0"), "--missing-score: expected exclude"),
        (("--bootstrap-samples", "-1"), "--bootstrap-samples: expected at least 0, got -1"),
        (("--confidence", "95"), "--confidence: expected a number between 0 and 1, got 95"),
        (("--name", "x", "--baseline-name", "x"), "both models are called 'x'"),
    ],
)
def test_wrong_options(files, tmp_path, capsys, more, message):
    labels, rows = files
    path = write_jsonl(tmp_path / "p.jsonl", rows)
    against = ("--baseline", path) if "--name" in more else ()
    assert evaluate_cli(path, *against, *options(labels), *more) == 2
    assert message in capsys.readouterr().err


def test_wrong_files(files, tmp_path, capsys):
    labels, rows = files
    path = write_jsonl(tmp_path / "p.jsonl", rows)
    elsewhere = write_jsonl(tmp_path / "e.jsonl", [row | {"video_id": f"sub/{row['video_id']}"} for row in rows])
    double = write_jsonl(tmp_path / "d.jsonl", [*rows, rows[0]])
    for arguments, message in (
        ((), "expected either files of predictions or --model PATH"),
        ((tmp_path / "none.jsonl", *options(labels)), "no such file; expected predictions"),
        ((path, "--model", "m"), "expected either files of predictions or --model PATH"),
        (("--model", "m"), "--model: no videos to ask about; pass --labels FILE"),
        (("--model", "m", *options(labels)), "mine/000.mp4: the labels do not say where the video is"),
        ((path,), "no mos beside the prediction; pass --labels FILE"),
        ((path, "--labels", tmp_path / "none.csv", "--dataset", "mine"), "no such file or folder"),
        ((path, "--labels", labels), "no dataset name; pass --dataset NAME"),
        ((f"else={path}", *options(labels)), "no benchmark 'else' in the labels; they have mine"),
        ((elsewhere, *options(labels)), "none of the 20 predictions has a label; the first is about 'sub/000.mp4'"),
        ((double, *options(labels)), "000.mp4 has a prediction already"),
    ):
        assert evaluate_cli(*arguments) == 2
        assert message in capsys.readouterr().err


def test_the_accuracy_of_pairs_is_in_every_output(files, tmp_path, capsys):
    labels, rows = files
    path = write_jsonl(tmp_path / "model.jsonl", rows)
    found = {}
    for gap in (0, 1.5):
        assert evaluate_cli(path, *options(labels, "--min-gap", gap), "--output-dir", tmp_path / "out") == 0
        shown = capsys.readouterr().out
        content = written(tmp_path / "out")
        (benchmark,) = content["models"][0]["benchmarks"]
        metric = benchmark["metrics"]["pair_accuracy"]
        assert content["settings"]["min_gap"] == gap
        assert 0 <= metric["low"] <= metric["value"] <= metric["high"] <= 1
        assert "2AFC" in shown
        assert f"{metric['value']:.3f}".removeprefix("0") in shown
        page = (tmp_path / "out" / "report.html").read_text()
        assert f"<dt>pairs</dt><dd>{benchmark['num_pairs']}</dd>" in page
        assert ("differ by 1.5 or more" in page) == (gap > 0)
        header, row = (tmp_path / "out" / "evaluation.csv").read_text().splitlines()
        cells = dict(zip(header.split(","), row.split(","), strict=True))
        assert float(cells["pair_accuracy"]) == metric["value"]
        assert int(cells["num_pairs"]) == benchmark["num_pairs"]
        found[gap] = (benchmark["num_pairs"], metric["value"])
    assert found[0][0] == 20 * 19 / 2
    assert found[1.5][0] < found[0][0]
    assert found[1.5][1] > found[0][1]  # pairs far apart are easier
    assert evaluate_cli(path, *options(labels, "--min-gap", 4)) == 1
    assert "no 2AFC: no two of the 20 MOS differ by 4 or more" in capsys.readouterr().out
    assert evaluate_cli(path, *options(labels, "--min-gap", -1)) == 2
    assert "--min-gap: expected a difference in [0, 4], got -1" in capsys.readouterr().err


def test_pairs_are_made_within_a_benchmark_only(files, tmp_path):
    # Two benchmarks, whose videos would be in the wrong order between them.
    rows = [
        {"video_id": f"{name}/{k}.mp4", "pred_mos": k + low} for name, low in (("a", 1), ("b", 2)) for k in range(3)
    ]
    path = write_jsonl(tmp_path / "model.jsonl", rows)
    sets = []
    for name, low in (("a", 3.0), ("b", 1.0)):
        write_labels(tmp_path / f"{name}.csv", {f"{k}.mp4": low + k for k in range(3)})
        sets.append({"labels": str(tmp_path / f"{name}.csv"), "dataset": name, "scale": [1, 5]})
    (tmp_path / "sets.json").write_text(json.dumps(sets))
    evaluate_cli(path, "--label-sets", tmp_path / "sets.json", *QUICK, "--output-dir", tmp_path / "out")
    (model,) = written(tmp_path / "out")["models"]
    assert [b["num_pairs"] for b in model["benchmarks"]] == [3, 3]
    assert [b["metrics"]["pair_accuracy"]["value"] for b in model["benchmarks"]] == [1, 1]
    assert model["mean"]["metrics"]["pair_accuracy"]["value"] == 1
