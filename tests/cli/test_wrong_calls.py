"""Every call that a new user got wrong: exit code, a message of at most three lines, no traceback, no start of verl.

The rows are those of a trial with about a hundred wrong calls. What a call does when it is right is tested elsewhere.
"""

import json
import os
import subprocess
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from helpers.training_inputs import write_inputs

from vqathinker_verl.cli import train as train_cli
from vqathinker_verl.cli.main import main
from vqathinker_verl.demo.degradations import encode_h264
from vqathinker_verl.frames import FrameSpec
from vqathinker_verl.inference import model_identity, options
from vqathinker_verl.inference import settings as asking_settings
from vqathinker_verl.inference.engines import Answer
from vqathinker_verl.inference.engines.contract import EXPORT_FILE, ModelDefaults
from vqathinker_verl.plan.recipe import RECIPES
from vqathinker_verl.runner import launch, settings

VISION = '{"model_type": "qwen2_5_vl", "vision_config": {}}'
LONGEST = 3  # lines


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with everything that the calls name, and the working directory of all of them."""
    folder = tmp_path_factory.mktemp("user")
    write_inputs(folder)
    frames = np.random.default_rng(0).integers(0, 255, (8, 84, 112, 3), dtype=np.uint8)
    (folder / "a.mp4").write_bytes(encode_h264(frames, 30))
    (folder / "fake.mp4").write_bytes(b"junk")
    ratings = "".join(f"clip{number}.mp4,{0.96 + 0.8 * number:.2f}\n" for number in range(12))
    (folder / "ratings.csv").write_text("video,mos\n" + ratings)
    (folder / "clips").mkdir()
    for number in range(12):
        (folder / "clips" / f"clip{number}.mp4").write_bytes(b"video")
    for name, config, weights in (("noweights", VISION, False), ("textonly", '{"model_type": "qwen2"}', True)):
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(config)
        if weights:
            (folder / name / "model.safetensors").touch()
    (folder / "out.csv").write_bytes((folder / "train.parquet").read_bytes())
    actor = folder / "run" / "checkpoints" / "global_step_5" / "actor"
    (actor / "huggingface").mkdir(parents=True)
    (actor / "huggingface" / "config.json").write_text(VISION)
    (actor / "model_world_size_1_rank_0.pt").touch()
    (folder / "brokenrun" / "checkpoints" / "global_step_5" / "actor").mkdir(parents=True)
    pyarrow.parquet.write_table(pa.table({f"column{number}": [1] for number in range(20)}), folder / "nocol.parquet")
    (folder / "scores.jsonl").write_text('{"video_id": "a.mp4", "pred_mos": 3.0}\n')
    question = {"video": "gone.mp4", "type": "Yes-or-No", "question": "Is it sharp?", "answer": "Yes"}
    (folder / "questions.jsonl").write_text(json.dumps({"id": "1", **question, "choices": ["Yes", "No"]}) + "\n")
    return folder


@pytest.fixture(autouse=True)
def nothing_starts(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(launch, "train", lambda *_, **__: pytest.fail("verl was started"))
    monkeypatch.setattr(train_cli, "make_demo", lambda *_: pytest.fail("the demo was made"))
    monkeypatch.setattr(settings, "visible_gpus", lambda: 0)
    monkeypatch.setattr(train_cli.os, "environ", dict(os.environ))
    for name in (*settings.VARIABLES.values(), "PLAN", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)


TRAIN = ["train", "--train", "train.parquet", "--val", "val.parquet", "--device", "cpu", "--experiment", "demo"]
PREPARE = ["prepare", "ratings.csv", "--dataset", "mine", "--video-root", "clips", "--no-probe"]
UNWRITABLE = "cannot be written (No such file or directory)"

# call, exit code, what the message says
CALLS = {
    "1 summary of nothing": (["summary", "nothere"], 2, "nothere: no metrics folder"),
    "2 score into /proc": (["score", "a.mp4", "--model", "model", "--output", "/proc/x.jsonl"], 2, UNWRITABLE),
    "3 export into /proc": (["export", "run", "--output-dir", "/proc/ex3"], 2, UNWRITABLE),
    "4 demo into /proc": (["demo", "--output-dir", "/proc/demo"], 2, UNWRITABLE),
    "5 GPUs no number": ([*TRAIN, "--model", "model", "--gpus", "x"], 2, "--gpus (NGPUS_PER_NODE): expected"),
    "5 no GPUs": ([*TRAIN, "--model", "model", "--gpus", "0"], 2, "--gpus (NGPUS_PER_NODE): expected a positive"),
    "6 steps no number": (["train", "--steps", "abc"], 2, "--steps (TOTAL_STEPS): expected a positive integer"),
    "7 no steps": (["train", "--steps", "0"], 2, "--steps (TOTAL_STEPS): expected a positive integer, got '0'"),
    "7 steps below 0": (["train", "--steps=-5"], 2, "--steps (TOTAL_STEPS): expected a positive integer, got '-5'"),
    "8 no weights": ([*TRAIN, "--model", "noweights"], 2, "no weights in this folder"),
    "9 text model": ([*TRAIN, "--model", "textonly"], 2, "no vision tower"),
    "10 not cached, offline": ([*TRAIN, "--model", "Qwen/Qwen2.5-VL-7B"], 2, "HF_HUB_OFFLINE is set"),
    "11 parquet named csv": ([*TRAIN, "--model", "model", "--train", "out.csv"], 2, "does not end in .parquet"),
    "12 batch below mini batch": (
        [*TRAIN, "--model", "model", "data.train_batch_size=8"],
        2,
        "ppo_mini_batch_size=16 is above data.train_batch_size=8; --videos-per-step 8 sets both",
    ),
    "13 unknown option": (["train", "--total-steps", "3"], 2, "argument --total-steps; did you mean --steps?"),
    "14 unknown field": (["train", "data.train_batch_siz=8"], 2, "did you mean data.train_batch_size?"),
    "14 unknown reward": (["train", "vqathinker.reward.sigm=.4"], 2, "did you mean vqathinker.reward.sigma?"),
    "15 scale too wide": ([*PREPARE, "--scale", "0", "100", "--output", "o.parquet"], 0, "did you mean --scale 0 10?"),
    "16 scale too narrow": ([*PREPARE, "--scale", "1", "5", "--output", "o.parquet"], 1, "7 rows were left out, the"),
    "17 scale turned round": ([*PREPARE, "--scale", "10", "0", "--output", "o.parquet"], 2, "--scale 10 0: expected"),
    "18 parquet into csv": ([*PREPARE, "--scale", "0", "10", "--output", "x.csv"], 2, "ends in .parquet"),
    "19 prepare into /proc": ([*PREPARE, "--scale", "0", "10", "--output", "/proc/o.parquet"], 2, UNWRITABLE),
    "20 no such video": (["score", "nothere.mp4", "--model", "model"], 2, "nothere.mp4: cannot be opened"),
    "21 no video": (["score", "fake.mp4", "--model", "model"], 2, "fake.mp4"),
    "21 a table": (["score", "ratings.csv", "--model", "model"], 2, "ratings.csv"),
    "22 score, no weights": (["score", "a.mp4", "--model", "noweights"], 2, "no weights in this folder"),
    "23 score, no model": (["score", "a.mp4", "--model", "/no/such/model"], 2, "no such folder"),
    "24 score, text model": (["score", "a.mp4", "--model", "textonly"], 2, "no vision tower"),
    "25 score, broken run": (["score", "a.mp4", "--model", "brokenrun"], 2, "no verl checkpoint"),
    "25 train from a run": ([*TRAIN, "--model", "run"], 2, "this is a training run, not a model; export it first"),
    "28 other columns": (["evaluate", "scores.jsonl", "--labels", "nocol.parquet"], 2, "expected a parquet file"),
    "29 evaluate into /proc": (["evaluate", "scores.jsonl", "--output-dir", "/proc/rep"], 2, UNWRITABLE),
    "30 videos elsewhere": (
        ["understand", "questions.jsonl", "--model", "model", "--output", "answers.jsonl"],
        2,
        "pass --video-root",
    ),
    "31 no questions": (["understand", "nothere.jsonl", "--output", "a.jsonl", "--model", "model"], 2, "No such file"),
    "31 no responses": (["reasoning", "nothere.jsonl", "--labels", "alsonot.csv"], 2, "nothere.jsonl: cannot be read"),
    "36 a mistyped command": (["scor"], 2, "no command 'scor'; did you mean score?"),
    "36 half of a real run": (["train", "--model", "model"], 2, "--train (TRAIN_FILES) is not set"),
    "nothing given": (["prepare", "ratings.csv", "--output", "o.parquet"], 2, "--dataset, --video-root, --scale"),
    "no GPU": ([*TRAIN[:5], "--model", "model"], 2, "no NVIDIA GPU answers on this machine"),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_a_wrong_call(name, capsys):
    arguments, code, said = CALLS[name]
    try:
        found = main(arguments)
    except SystemExit as end:  # argparse
        found = end.code
    out, err = capsys.readouterr()
    assert found == code
    message = err if code != 1 else out.splitlines()[-1]  # with results, the last line of them
    assert said in message
    assert "Traceback" not in out + err
    assert len(err.splitlines()) <= LONGEST
    assert out == "" or code != 2


def test_27_another_model_is_called_so(folder, monkeypatch, capsys):
    """A moved or copied one is the same (tests/inference/test_scoring.py)."""
    engine = SimpleNamespace(frames=FrameSpec(4), generate=lambda *_, **__: iter([Answer(("",))]))
    monkeypatch.setattr(asking_settings, "open_engine", lambda *_, **__: engine)
    codes = []
    for digest in ("one", "other"):
        monkeypatch.setattr(model_identity, "_digest", lambda _, digest=digest: digest)
        codes.append(main(["score", "a.mp4", "--model", "model", "--output", "predictions.jsonl"]))
    assert codes == [0, 2]
    said = capsys.readouterr().err.splitlines()[-1]
    assert f"made with another model ({folder}/model); choose another output" in said


def test_26_far_more_frames_than_the_model_knows_are_a_warning(folder, monkeypatch, capsys):
    import argparse

    (folder / "exported").mkdir()
    (folder / "exported" / EXPORT_FILE).write_text(json.dumps(ModelDefaults().as_json()))
    monkeypatch.setattr(asking_settings, "usable_model", lambda model: model)
    parser = argparse.ArgumentParser()
    options.add_engine_options(parser)
    options.add_question_options(parser)
    for frames, warned in (("24", False), ("200", True)):
        options.asking_from(parser.parse_args(["--model", "exported", "--num-frames", frames]))
        assert ("200 frames are shown; the model was validated with 12" in capsys.readouterr().err) is warned


def script(*arguments, **environment):
    clean = {name: value for name, value in os.environ.items() if name not in settings.VARIABLES.values()}
    return subprocess.run(
        ["bash", *map(str, arguments)], env={**clean, **environment}, capture_output=True, text=True, timeout=60
    )


def test_32_the_demo_cannot_be_planned_before_it_is_made():
    done = script("-c", f"python -m vqathinker_verl.cli plan {RECIPES}/run_vqathinker.sh")
    assert done.returncode == 2
    assert "outputs/demo/model: no config.json there; is it made already?" in done.stderr
    assert len(done.stderr.splitlines()) <= LONGEST


def test_33_an_unknown_device_installs_nothing():
    done = script(RECIPES / "run_vqathinker.sh", DEVICE="tpu")
    assert (done.returncode, done.stdout) == (2, "")
    assert "expected cpu or gpu, got 'tpu'" in done.stderr
    assert len(done.stderr.splitlines()) <= LONGEST


def test_34_relative_paths_are_the_users(folder):
    own = {"MODEL_PATH": "model", "TRAIN_FILES": "train.parquet", "VAL_FILES": "val.parquet", "OUTPUT_DIR": "reltest"}
    done = script(RECIPES / "run_vqathinker.sh", PLAN="1", **own)
    assert f"actor_rollout_ref.model.path={folder}/model" in done.stdout.splitlines()
    assert f"data.train_files={folder}/train.parquet" in done.stdout.splitlines()
    assert not (RECIPES.parent / "reltest").exists()
