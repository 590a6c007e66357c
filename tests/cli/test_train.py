"""`vqathinker train`: what its options and variables become, and what it refuses before anything starts."""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import zipfile

import pytest
from helpers.training_inputs import write_inputs

from vqathinker_verl.cli import train as train_cli
from vqathinker_verl.cli.main import build_parser, main
from vqathinker_verl.config.compose import InputError
from vqathinker_verl.runner import launch
from vqathinker_verl.runner import settings as module
from vqathinker_verl.runner.settings import device_environment, overrides_of, read_settings


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch):
    """A machine without a GPU, and none of the recipes' variables."""
    monkeypatch.setattr(module, "visible_gpus", lambda: 0)
    for name in (*module.VARIABLES.values(), "DEMO_DIR", "DEMO_ARGUMENTS", "ATTENTION", "PLAN", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)


def parsed(*args):
    return build_parser("train").parse_args(["train", *args])


def read(*args, plan=False, **environment):
    return read_settings(parsed(*args), environment, plan=plan)


OWN = ("--model", "org/name", "--train", "t.parquet", "--val", "v.parquet", "--device", "cpu")


class TestSettings:
    def test_without_model_and_data_it_is_the_demo(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        settings = read()
        assert (settings.experiment, settings.device, settings.gpus) == ("demo", "cpu", 1)
        assert settings.demo_dir == tmp_path / "outputs" / "demo"
        assert settings.output_dir == tmp_path / "outputs" / "vqathinker"

    def test_options_become_overrides(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        sizes = ("--steps", "7", "--videos-per-step", "8", "--responses-per-video", "4", "--nodes", "2", "--seed", "3")
        overrides = overrides_of(read(*OWN, *sizes, "--gpus", "2", "--output-dir", "out"))
        assert overrides == [
            "platform=cpu",
            "experiment=full",
            "data.seed=3",
            f"data.train_files={tmp_path}/t.parquet",
            f"data.val_files={tmp_path}/v.parquet",
            "actor_rollout_ref.model.path=org/name",
            "trainer.total_training_steps=7",
            "data.train_batch_size=8",
            "actor_rollout_ref.actor.ppo_mini_batch_size=8",
            "actor_rollout_ref.rollout.n=4",
            "trainer.nnodes=2",
            "trainer.n_gpus_per_node=2",
        ]

    def test_variables_do_the_same_and_options_win(self):
        variables = {
            "MODEL_PATH": "org/name",
            "TRAIN_FILES": "t",
            "VAL_FILES": "v",
            "DEVICE": "cpu",
            "TOTAL_STEPS": "9",
        }
        assert read(**variables).steps == 9
        assert read("--steps", "4", **variables).steps == 4
        assert read(**variables, NGPUS_PER_NODE="").gpus == 1  # an empty variable is none

    def test_paths_are_relative_to_the_working_directory(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "mymodel").mkdir()
        settings = read(MODEL_PATH="mymodel", TRAIN_FILES="[a.parquet, /b.parquet]", VAL_FILES="v", DEVICE="cpu",
                        OUTPUT_DIR="reltest")  # fmt: skip
        assert settings.model == str(tmp_path / "mymodel")
        assert settings.train == (f"{tmp_path}/a.parquet", "/b.parquet")
        assert settings.output_dir == tmp_path / "reltest"
        assert f"data.train_files=[{tmp_path}/a.parquet,/b.parquet]" in overrides_of(settings)

    def test_several_files(self):
        train = ("--train", "/a.parquet", "/b (1).parquet")
        settings = read("--model", "org/name", *train, "--val", "/v", "--device", "cpu")
        assert "data.train_files=[/a.parquet,'/b (1).parquet']" in overrides_of(settings)

    def test_all_gpus_unless_the_experiment_says_otherwise(self, monkeypatch):
        monkeypatch.setattr(module, "visible_gpus", lambda: 8)
        own = OWN[:-2]
        assert (read(*own).device, read(*own).gpus) == ("gpu", 8)
        assert read(*own, "--experiment", "separate_async").gpus is None
        assert read().gpus == 1  # the demo

    def test_a_device_needs_its_variables(self, monkeypatch):
        assert "VERL_PLATFORM" not in device_environment("gpu")
        monkeypatch.setenv("OMP_NUM_THREADS", "7")
        assert device_environment("cpu")["VERL_PLATFORM"] == "cpu"
        assert device_environment("cpu")["OMP_NUM_THREADS"] == "7"

    def test_a_clusters_nodes_have_stated_their_sizes(self, monkeypatch):
        monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
        assert "ray_kwargs.ray_init.num_gpus=null" in overrides_of(read(*OWN))
        assert read(*OWN[:-1], "gpu").gpus is None

    @pytest.mark.parametrize(
        ("args", "named"),
        [
            (["--steps", "abc"], "--steps (TOTAL_STEPS): expected a positive integer, got 'abc'"),
            (["--steps", "0"], "--steps (TOTAL_STEPS): expected a positive integer, got '0'"),
            (["--gpus", "x"], "--gpus (NGPUS_PER_NODE): expected a positive integer"),
            (["--nodes=-1"], "--nodes (NNODES): expected a positive integer"),
            (["--videos-per-step", "1.5"], "--videos-per-step: expected a positive integer"),
            (["--seed=-1"], "--seed (SEED): expected an integer of 0 or more"),
            (["--device", "tpu"], "--device (DEVICE): expected gpu or cpu, got 'tpu'"),
            (["--device", "gpu"], "no NVIDIA GPU answers on this machine"),
            (["--experiment", "dmo"], "no experiment 'dmo'; did you mean demo?"),
            (["--model", "org/name"], "--train (TRAIN_FILES) is not set"),
            (["--val", "v"], "--model (MODEL_PATH) is not set"),
            (OWN[:-2], "no NVIDIA GPU answers on this machine"),
            ([*OWN, "--experiment", "separate_async", "--videos-per-step", "8"], "separate_async takes several"),
        ],
    )
    def test_what_cannot_be_is_refused(self, args, named):
        with pytest.raises(InputError) as caught:
            read(*args)
        assert str(caught.value).startswith(named) or named in str(caught.value)
        assert "\n" not in str(caught.value)


def test_wrong_variables_are_refused_by_the_command(monkeypatch, capsys):
    monkeypatch.setenv("TOTAL_STEPS", "abc")
    assert main(["train"]) == 2
    assert capsys.readouterr().err == (
        "vqathinker train: --steps (TOTAL_STEPS): expected a positive integer, got 'abc'\n"
    )


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("data.train_batch_siz=8", "data.train_batch_siz: no such field; did you mean data.train_batch_size?"),
        ("vqathinker.reward.sigm=.4", "did you mean vqathinker.reward.sigma?"),
        ("trainer.total_training_steps=-5", "trainer.total_training_steps (--steps, TOTAL_STEPS): expected a positive"),
        ("experiment=dem", "experiment=dem: no such experiment; did you mean demo?"),
    ],
)
def test_a_wrong_override_is_reported_before_the_demo_is_made(tmp_path, monkeypatch, capsys, override, named):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train_cli, "make_demo", lambda *_: pytest.fail("must not get here"))
    monkeypatch.setattr(train_cli.os, "environ", dict(train_cli.os.environ))
    assert main(["train", "--steps", "3", override, "--seed", "1"]) == 2
    said = capsys.readouterr().err
    assert named in said
    assert said.count("\n") == 1


def test_a_plan_prints_overrides_and_starts_nothing(monkeypatch, capsys):
    monkeypatch.setenv("PLAN", "1")
    monkeypatch.setenv("MODEL_PATH", "org/name")
    monkeypatch.setattr(launch, "main", lambda _: pytest.fail("must not get here"))
    assert main(["train", "a.b=1", "--nodes", "3", "c.d=2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {"platform=gpu", "trainer.nnodes=3", "actor_rollout_ref.model.path=org/name"} < set(lines)
    assert lines[-2:] == ["a.b=1", "c.d=2"]


def test_the_demo_is_made_once(tmp_path, monkeypatch):
    ran = []

    def run(command, check):
        ran.append(command[3:])
        if command[3] == "prepare":
            (tmp_path / f"{command[command.index('--split') + 1]}.parquet").touch()
        return argparse.Namespace(returncode=0)

    (tmp_path / "labels").mkdir()
    for split in ("train", "val"):
        (tmp_path / "labels" / f"{split}.csv").touch()
    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setenv("DEMO_ARGUMENTS", "--train-clips 336")
    assert train_cli.make_demo(tmp_path, seed=5) == 0
    assert [command[0] for command in ran] == ["demo", "prepare", "prepare"]
    assert ran[0][1:] == ["--output-dir", str(tmp_path), "--seed", "5", "--train-clips", "336"]
    ran.clear()
    assert train_cli.make_demo(tmp_path, seed=5) == 0
    assert [command[0] for command in ran] == ["demo"]  # which finds that nothing is missing


def test_a_demo_that_fails_ends_the_command(tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: argparse.Namespace(returncode=2))
    assert train_cli.make_demo(tmp_path, seed=0) == 2


@pytest.fixture
def finished_run(tmp_path):
    """A run of 30 steps, the last of them saved; returns the options of the command that made it."""
    files = write_inputs(tmp_path)
    output = tmp_path / "run"
    actor = output / "checkpoints" / "global_step_30" / "actor"
    actor.mkdir(parents=True)
    shards = [actor / f"{name}_world_size_1_rank_0.pt" for name in ("model", "optim", "extra_state")]
    for path in (*shards, actor.parent / "data.pt"):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("data", "")
    (output / "checkpoints" / "latest_checkpointed_iteration.txt").write_text("30")
    (output / "metrics").mkdir()
    line = {"step": 30, "data": {"timing_s/step": 1.5, "reward/overall": 2.5}}
    (output / "metrics" / "0000.jsonl").write_text(json.dumps(line) + "\n")
    return [*files, "--device", "cpu", "--experiment", "demo", "--output-dir", str(output)]


class TestFinished:
    @pytest.fixture(autouse=True)
    def no_training(self, monkeypatch):
        self.started = []
        monkeypatch.setattr(launch, "train", lambda *args, **_: self.started.append(args) or 0)
        monkeypatch.setattr(train_cli.os, "environ", dict(train_cli.os.environ))

    def test_it_is_not_run_again_and_its_summary_is_printed(self, finished_run, capsys):
        assert main(["train", *finished_run]) == 0
        out, err = capsys.readouterr()
        assert "30 of 30 steps are done. --steps 60 (TOTAL_STEPS) continues it" in err
        assert "2.500" in out  # the summary's reward
        assert self.started == []

    def test_more_steps_continue_it(self, finished_run):
        assert main(["train", *finished_run, "--steps", "31"]) == 0
        assert len(self.started) == 1

    def test_a_last_checkpoint_that_is_cut_off_does_not_count(self, finished_run, tmp_path, capsys):
        (tmp_path / "run" / "checkpoints" / "global_step_30" / "data.pt").write_bytes(b"")
        assert main(["train", *finished_run]) == 2
        assert "no complete checkpoint" in capsys.readouterr().err

    def test_epochs_are_counted_as_verl_does(self, finished_run):
        # 16 rows, 16 a step: one step per epoch
        override = "trainer.total_training_steps=null"
        assert main(["train", *finished_run, override, "trainer.total_epochs=30"]) == 0
        assert self.started == []
        assert main(["train", *finished_run, override, "trainer.total_epochs=31"]) == 0
        assert len(self.started) == 1


def test_the_complete_command_with_a_stand_in_for_verl(tmp_path):
    """From the options to verl's arguments and environment, the exit code, and the files of the run."""
    files = write_inputs(tmp_path)
    package = tmp_path / "stand_in" / "verl" / "trainer"
    package.mkdir(parents=True)
    for folder in (package, package.parent):
        (folder / "__init__.py").touch()
    real = importlib.util.find_spec("verl").submodule_search_locations[0]
    (package / "config").symlink_to(f"{real}/trainer/config")
    (package / "main_ppo.py").write_text(
        "import json, os, sys\n"
        "json.dump({'argv': sys.argv[1:], 'env': dict(os.environ)}, open('seen.json', 'w'))\n"
        "line = {'step': 1, 'data': {'timing_s/step': 1.0, 'reward/overall': 2.5}}\n"
        "open(os.environ['VERL_FILE_LOGGER_PATH'], 'w').write(json.dumps(line) + '\\n')\n"
    )
    root = str(package.parents[1])
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    for name in module.VARIABLES.values():
        variables.pop(name, None)
    options = [*files, "--device", "cpu", "--experiment", "demo", "--videos-per-step", "8", "--steps", "1"]
    command = [sys.executable, "-m", "vqathinker_verl.cli", "train", *options, "--output-dir", "out", "--"]
    done = subprocess.run(
        [*command, "trainer.save_freq=7"], cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads((tmp_path / "seen.json").read_text())
    expected = {"data.train_batch_size=8", "actor_rollout_ref.actor.ppo_mini_batch_size=8", "trainer.save_freq=7"}
    assert {*expected, f"data.train_files={tmp_path}/train.parquet", "trainer.total_training_steps=1"} < set(
        seen["argv"]
    )
    assert f"trainer.default_local_dir={tmp_path}/out/checkpoints" in seen["argv"]
    assert (seen["env"]["VERL_PLATFORM"], seen["env"]["TORCHDYNAMO_DISABLE"]) == ("cpu", "1")
    assert "2.500" in done.stdout  # the summary
    assert (tmp_path / "out" / "metrics.jsonl").is_file()
