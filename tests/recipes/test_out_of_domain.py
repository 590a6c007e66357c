"""recipes/run_out_of_domain.sh: its arms, its clips, the supervised arm, and the tables."""

import importlib.util
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch

from vqathinker_verl import parse_answer
from vqathinker_verl.demo.clips import ClipLabel
from vqathinker_verl.demo.degradations import STRENGTHS
from vqathinker_verl.demo.model import build_model, build_processor, save_policy
from vqathinker_verl.evaluation.reference import published
from vqathinker_verl.plan.recipe import RECIPES, compose_recipe

SCRIPT = RECIPES / "run_out_of_domain.sh"
FOLDER = RECIPES / "out_of_domain"


def module(name):
    spec = importlib.util.spec_from_file_location(f"out_of_domain_{name}", FOLDER / f"{name}.py")
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = loaded  # dataclasses look their module up
    spec.loader.exec_module(loaded)
    return loaded


make_clips, fine_tune, report = module("make_clips"), module("fine_tune"), module("report")


def recipe(**environment):
    variables = ("MODEL_PATH", "TRAIN_FILES", "TEST_FILES", "CHAIN_SOURCES", "EXPERIMENT", "ARM", "SEED", "TOTAL_STEPS")
    clean = {name: value for name, value in os.environ.items() if name not in variables}
    path = f"{os.environ['PATH']}{os.pathsep}{Path(sys.executable).parent}"
    return subprocess.run(
        ["bash", str(SCRIPT)], env={**clean, "PATH": path, "PLAN": "1", **environment}, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip


def composed(**environment):
    done = recipe(**environment)
    assert done.returncode == 0, done.stderr
    return compose_recipe(done.stdout.splitlines())


def names(files):
    """The names of one file or of a list."""
    return [Path(file).name for file in ([files] if isinstance(files, str) else files)]


def test_the_arms_of_the_demo_differ_in_what_they_train_on_alone():
    configs = {arm: composed(ARM=arm) for arm in ("labels", "labels_and_chains", "chains")}
    trained = {arm: names(config.data.train_files) for arm, config in configs.items()}
    assert trained == {
        "labels": ["train.parquet"],
        "labels_and_chains": ["train.parquet", "chains.parquet"],
        "chains": ["chains.parquet"],
    }
    assert configs["labels_and_chains"].data.chains.share == 0.5
    tested = [f"{chosen.name}.parquet" for chosen in make_clips.SETS if chosen.name not in ("train", "sources")]
    for config in configs.values():
        assert names(config.data.val_files) == tested
        assert (config.trainer.total_training_steps, config.data.train_batch_size) == (30, 16)
        assert config.actor_rollout_ref.rollout.n == 8
        assert config.vqathinker.temporal.enable


@pytest.mark.parametrize("arm", ["labels", "labels_and_chains", "chains"])
def test_the_same_arms_train_on_lsvq_and_are_tested_on_the_others(arm):
    others = [name for name in published().num_videos if not name.startswith("LSVQ")]
    assert len(others) == 8
    tests = ["LSVQ-1080p.parquet", *(f"{name}.parquet" for name in others)]
    config = composed(
        ARM=arm,
        MODEL_PATH="Qwen/Qwen2.5-VL-7B-Instruct",
        EXPERIMENT="qwen2_5_vl_7b",
        TRAIN_FILES="lsvq.parquet",
        TEST_FILES=" ".join(tests),
        CHAIN_SOURCES="clips",
        DEVICE="gpu",
    )
    assert names(config.data.val_files) == tests
    expected = {"labels": ["lsvq.parquet"], "chains": ["chains.parquet"]}
    assert names(config.data.train_files) == expected.get(arm, ["lsvq.parquet", "chains.parquet"])
    assert config.actor_rollout_ref.model.path == "Qwen/Qwen2.5-VL-7B-Instruct"
    assert config.trainer.total_training_steps is None  # the experiment's epochs


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"ARM": "sft"}, "ARM=sft; expected before, labels, labels_and_chains, chains or fine_tuned"),
        ({"MODEL_PATH": "m", "TRAIN_FILES": "a.parquet"}, "TEST_FILES is not set"),
        ({"ARM": "fine_tuned", "MODEL_PATH": "m"}, "ARM=fine_tuned: the demo only"),
    ],
)
def test_wrong_settings_end_in_one_line(environment, message):
    done = recipe(**environment)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_no_scene_and_no_labelled_kind_is_shared():
    labels = {chosen.name: list(make_clips.plan(chosen)) for chosen in make_clips.SETS}
    drawn = [label.source for name, rows in labels.items() if name != "real_clips" for label in rows]
    assert len(set(drawn)) == len(drawn)
    assert {label.source for label in labels["real_clips"]} == set(make_clips.REAL_CLIPS)
    kinds = {name: {label.distortion for label in rows} - {"pristine"} for name, rows in labels.items()}
    assert not kinds["train"] & kinds["unlabelled_kinds"]
    assert kinds["train"] == kinds["same_kinds"] == kinds["real_clips"] == kinds["other_format"]
    for name, rows in labels.items():
        if name == "sources":
            continue
        counts = pandas.Series([(row.distortion, row.strength) for row in rows if row.strength]).value_counts()
        assert len(counts) == len(kinds[name]) * len(STRENGTHS)
        assert counts.max() - counts.min() <= 1


def test_a_clip_of_another_format_has_another_size_rate_and_codec():
    import av

    facts = {}
    for name in ("same_kinds", "other_format"):
        (chosen,) = (each for each in make_clips.SETS if each.name == name)
        label = ClipLabel("a.mp4", 50.0, "drops", 0.6, 4, "drawn")
        video = make_clips.make_clip(chosen, label, np.random.default_rng(0))
        assert video == make_clips.make_clip(chosen, label, np.random.default_rng(0))
        with av.open(io.BytesIO(video)) as container:
            stream = container.streams.video[0]
            codec = stream.codec_context.name
            facts[name] = (stream.width, stream.height, float(stream.average_rate), codec, stream.frames)
    assert facts == {"same_kinds": (84, 84, 12.0, "h264", 48), "other_format": (128, 128, 6.0, "hevc", 24)}


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Eight labelled clips, in the layout of make_clips.py."""
    folder = tmp_path_factory.mktemp("clips")
    (train,) = (each for each in make_clips.SETS if each.name == "train")
    (folder / "train").mkdir()
    labels = list(make_clips.plan(train))[:8]
    for number, label in enumerate(labels):
        (folder / label.video).write_bytes(make_clips.make_clip(train, label, np.random.default_rng(number)))
    pandas.DataFrame(labels).to_csv(folder / "train.csv", index=False)
    return folder


def test_written_answers_give_the_mos_on_the_scale_of_the_question(labelled):
    clips = fine_tune.read_clips(labelled)
    written = [parse_answer(fine_tune.written_answer(clip, None)[1]).score for clip in clips]
    mos = pandas.read_csv(labelled / "train.csv")["mos"]
    np.testing.assert_allclose(written, 1 + 4 * mos / 100, atol=0.005)
    assert "smeared" in fine_tune.written_answer(clips[2], None)[1]


def test_batches_show_every_clip_before_any_again():
    batches = fine_tune.shuffled_batches(list(range(8)), 3, seed=0)
    shown = [number for _ in range(8) for number in next(batches)]
    assert all(sorted(shown[start : start + 8]) == list(range(8)) for start in (0, 8, 16))
    assert shown[:8] != shown[8:16]


def test_fine_tuning_learns_the_answers_and_leaves_the_vision_tower(labelled, tmp_path, monkeypatch):
    processor = build_processor()
    before = build_model(processor.tokenizer, seed=0)
    save_policy(before, processor, tmp_path / "model")
    arguments = ["--model", tmp_path / "model", "--clips", labelled, "--output-dir", tmp_path / "tuned"]
    monkeypatch.setattr(sys, "argv", ["fine_tune.py", *map(str, arguments), "--steps", "3", "--batch-size", "4"])
    assert fine_tune.main() == 0
    tuned = type(before).from_pretrained(tmp_path / "tuned", local_files_only=True)
    changed = {
        name for name, weight in tuned.state_dict().items() if not torch.equal(weight, before.state_dict()[name])
    }
    assert changed
    assert not any("visual" in name for name in changed)


def predictions(path, shift):
    """Six videos in each of two sets; `shift` of them are out of order."""
    path.mkdir(parents=True)
    lines = []
    words = ["very grainy", "very smeared", "clearly grainy", "clearly grainy", "slightly grainy", "sharp"]
    for name in ("same_kinds", "unlabelled_kinds"):
        for number in range(6):
            score = 1.5 + 0.5 * ((number + shift * (name == "unlabelled_kinds")) % 6)
            video_id = f"{name}/{name}_{number:04d}_{'pristine' if number == 5 else 'noise'}_000.mp4"
            response = f"<think>It looks {words[number]}</think><answer>{score:.2f}</answer>"
            video = {"video_id": video_id, "data_source": name, "mos": 1.5 + 0.5 * number, "pred_mos": score}
            lines.append(json.dumps({**video, "response": response}))
    (path / "predictions.jsonl").write_text("\n".join(lines))
    command = ["evaluate", str(path / "predictions.jsonl"), "--output-dir", str(path), "--bootstrap-samples", "50"]
    subprocess.run([sys.executable, "-m", "vqathinker_verl.cli", *command], check=True, capture_output=True)


def test_tables_of_two_arms(tmp_path, capsys, monkeypatch):
    predictions(tmp_path / "labels-seed0" / "evaluation", shift=3)
    predictions(tmp_path / "chains-seed0" / "evaluation", shift=0)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    monkeypatch.setattr(sys, "argv", ["report.py", str(tmp_path)])
    assert report.main() == 0
    printed, errors = capsys.readouterr()
    srcc, less = printed.split("## Less")
    assert "| all rewards on labels | 0 | 1.000" in srcc
    assert "| chains alone | 0 | 1.000" in srcc
    # Ranks 4 5 6 1 2 3 for 1 2 3 4 5 6: 1 - 6 x 54 / (6 x 35).
    assert f"{1 - 6 * 54 / 210:.3f}" in srcc
    assert f"| +0.000 (p = 1.000) | {6 * 54 / 210:+.3f} (p =" in less
    assert "before: no finished run with seed 0" in errors


def test_tables_of_answers_and_words(tmp_path, capsys, monkeypatch):
    predictions(tmp_path / "before-seed0" / "evaluation", shift=0)
    (tmp_path / "clips-seed0").mkdir()
    for name in ("same_kinds", "unlabelled_kinds"):
        kinds = ["noise"] * 5 + ["pristine"]
        rows = [f"{name}/{name}_{number:04d}_{kind}_000.mp4,{kind}" for number, kind in enumerate(kinds)]
        (tmp_path / "clips-seed0" / f"{name}.csv").write_text("\n".join(["video,distortion", *rows]))
    answers = [
        ("which of four: noise", "A", "A"),
        ("which of four: noise", "B", "A"),
        ("which of four: blur", None, "C"),
    ]
    answers += [("yes/no: noise", "yes", "yes"), ("yes/no: blur", "no", "no")]
    rows = [{"id": str(n), "type": kind, "choice": choice, "answer": answer} for n, (kind, choice, answer) in
            enumerate(answers)]  # fmt: skip
    (tmp_path / "before-seed0" / "understanding.jsonl").write_text("\n".join(map(json.dumps, rows)))
    monkeypatch.setattr(sys, "argv", ["report.py", str(tmp_path)])
    assert report.main() == 0
    printed = capsys.readouterr().out
    assert "| arm | seeds | noise | blur |\n| --- | --- | --- | --- |\n| chance |  | 0.25 | 0.25 |" in printed
    assert "| before training | 1 | 0.50 | 0.00 |" in printed
    assert "| before training | 1 | 1.00 | 1.00 |" in printed
    # Five of six name the true distortion; degrees 3 3 2 2 1 0 for rising scores, so the ties alone cost a little.
    assert "| before training | 0 | 0.83, 0.97 | 0.83, 0.97 |" in printed


def test_questions_name_their_clips_distortion():
    (chosen,) = (each for each in make_clips.SETS if each.name == "unlabelled_kinds")
    labels = list(make_clips.plan(chosen))
    rows = make_clips.typed_questions(labels, seed=0)
    assert len(rows) == 3 * len(labels)
    assert {row["type"] for row in rows} == {
        f"{kind}: {name}" for kind in report.CHANCE for name in make_clips.UNLABELLED
    }
    assert len({row["id"] for row in rows}) == len(rows)


def test_an_empty_folder_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["report.py", str(tmp_path)])
    assert report.main() == 2
    assert f"no finished run of recipes/run_out_of_domain.sh under {tmp_path}" in capsys.readouterr().err
