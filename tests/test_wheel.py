"""The built wheel, away from the repository: its files, its configuration, its commands without any extra."""

import importlib.util
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml
from helpers.wheel import ROOT, install_wheel

from vqathinker_verl.cli.main import COMMANDS

BARE = ("numpy", "scipy")
# Each with arguments that are accepted, so that only the dependency is missing.
ARGUMENTS = {
    "prepare": ["labels.csv", "--scale", "1", "5", "--output", "train.parquet"],
    "demo": ["--output-dir", "demo"],
    "plan": ["recipe.sh"],
    "train": [],
    "watch": ["run"],
    "summary": ["run"],
    "export": ["run", "--output-dir", "exported"],
    "score": ["clip.mp4", "--model", "model"],
    "ui": ["--model", "model"],
    "serve": ["--model", "model"],
    "describe": ["clip.mp4", "--model", "model", "--output-dir", "descriptions"],
    "calibrate": ["predictions.jsonl", "--labels", "labels.csv", "--output", "calibration.json"],
    "evaluate": [
        "predictions.jsonl",
        "--labels",
        "labels.csv",
        "--output-dir",
        "report",
        "--dataset",
        "mine",
        "--scale",
        "1",
        "5",
    ],
    "understand": ["questions.jsonl", "--model", "model", "--output", "answers"],
    "reasoning": ["predictions.jsonl", "--labels", "demo_labels.csv"],
}
HELP = ("plan", "score")  # the first imports its extra before it can show its options, the second does not


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """The folder that the wheel was installed into; nothing else is in it."""
    folder = tmp_path_factory.mktemp("wheel")
    return install_wheel(folder, folder / "installed")


def test_all_data_files_are_in_the_wheel(wheel):
    suffixes = {".yaml", ".json", ".jinja", ".typed"}
    for path in (ROOT / "vqathinker_verl").rglob("*"):
        if path.suffix in suffixes:
            assert (wheel / path.relative_to(ROOT)).read_bytes() == path.read_bytes()
    assert len(list((wheel / "vqathinker_verl/config").rglob("*.yaml"))) > 10


@pytest.fixture(scope="module")
def bare(wheel, tmp_path_factory):
    """Python of an environment that has the wheel, NumPy and SciPy, and nothing else."""
    folder = tmp_path_factory.mktemp("bare")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=120)
    packages = next(folder.glob("lib/python*/site-packages"))
    for name in BARE:
        place = Path(importlib.util.find_spec(name).submodule_search_locations[0])
        (packages / name).symlink_to(place)
        libraries = place.with_name(f"{name}.libs")
        if libraries.exists():
            (packages / libraries.name).symlink_to(libraries)
    for path in wheel.iterdir():
        (packages / path.name).symlink_to(path)
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def outcomes(bare, tmp_path_factory):
    """What every command does in the bare environment, with arguments and with --help."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "labels.csv").write_text("video,mos\nclip.mp4,3.0\n")
    (folder / "demo_labels.csv").write_text("video,distortion,mos\nclip.mp4,noise,60\n")
    (folder / "clip.mp4").write_bytes(b"a video")
    (folder / "predictions.jsonl").write_text(
        '{"video_id": "clip.mp4", "pred_mos": 3.0, "response": "<answer>3.00</answer>"}\n'
    )
    (folder / "questions.jsonl").write_text('{"video": "clip.mp4", "question": "Noise?", "answer": "Yes"}\n')
    (folder / "run").mkdir()
    (folder / "run" / "metrics.jsonl").write_text('{"step": 1, "data": {"reward/overall": 1.0}}\n')
    actor = folder / "run" / "checkpoints" / "global_step_1" / "actor"
    actor.mkdir(parents=True)
    (actor / "model_world_size_1_rank_0.pt").write_bytes(b"weights")
    (actor / "huggingface").mkdir()
    (actor / "huggingface" / "config.json").write_text("{}")
    (folder / "run" / "checkpoints" / "latest_checkpointed_iteration.txt").write_text("1")
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text('{"model_type": "qwen2_5_vl"}')

    def run(arguments):
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        command = [str(bare), "-m", "vqathinker_verl.cli", *arguments]
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)

    calls = [[name, *ARGUMENTS.get(name, [])] for name in COMMANDS] + [[name, "--help"] for name in HELP]
    with ThreadPoolExecutor(2) as pool:
        return {tuple(call): done for call, done in zip(calls, pool.map(run, calls), strict=True)}


@pytest.mark.parametrize("command", ARGUMENTS)
def test_a_command_names_the_extra_that_it_needs(outcomes, command):
    done = outcomes[(command, *ARGUMENTS[command])]
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"vqathinker {command}: needs "), done.stderr
    assert "; install it with: pip install 'vqathinker-verl[" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("command", HELP)
def test_help_is_shown_or_the_extra_named(outcomes, command):
    done = outcomes[(command, "--help")]
    assert "Traceback" not in done.stderr
    if done.returncode == 0:
        assert done.stdout.startswith(f"usage: vqathinker {command}")
    else:
        assert done.returncode == 2
        assert "pip install 'vqathinker-verl[" in done.stderr


def test_doctor_says_what_it_could_not_check(outcomes):
    done = outcomes[("doctor",)]
    assert done.returncode == 1
    assert done.stderr == ""
    said = "skip  memory    not checked: needs psutil; install it with: pip install 'vqathinker-verl[verl]'"
    assert said in done.stdout.splitlines()
    assert "FAIL  memory" not in done.stdout


@pytest.mark.e2e
def test_verls_own_main_composes_the_configuration_of_the_wheel(wheel, tmp_path):
    """Away from the repository; verl's imports take up to a minute on two cores."""
    environment = {**os.environ, "PYTHONPATH": str(wheel), "VERL_PLATFORM": "cpu"}
    command = [sys.executable, "-m", "verl.trainer.main_ppo", "--config-path=pkg://vqathinker_verl.config"]
    command += ["--config-name=vqathinker", "platform=cpu", "experiment=demo", "data.train_files=train.parquet"]
    command += ["data.val_files=val.parquet", "actor_rollout_ref.model.path=model", "--cfg", "job"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    config = yaml.safe_load(done.stdout[done.stdout.index("actor_rollout_ref:") :])
    assert config["trainer"]["device"] == "cpu"
    assert config["trainer"]["experiment_name"] == "demo"
    assert config["trainer"]["v1"]["trainer_mode"] == "vqathinker_sync"

    paths = set(_pkg_paths(config))
    assert "vqathinker_verl.plugin.dataset" in paths
    script = "import importlib.util, sys; [print(importlib.util.find_spec(name).origin) for name in sys.argv[1:]]"
    command = [sys.executable, "-c", script, *sorted(paths)]
    found = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert found.returncode == 0, found.stderr
    assert len(found.stdout.splitlines()) == len(paths)
    assert all(line.startswith(f"{wheel}/") for line in found.stdout.splitlines())


def _pkg_paths(tree):
    """The module names of all pkg:// paths in a configuration."""
    if isinstance(tree, dict):
        tree = list(tree.values())
    if isinstance(tree, list):
        for value in tree:
            yield from _pkg_paths(value)
    elif isinstance(tree, str) and tree.startswith("pkg://"):
        yield tree.removeprefix("pkg://")
