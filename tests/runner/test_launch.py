import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from helpers.recorded_run import finished_run
from helpers.stand_in import start_launcher
from omegaconf import OmegaConf

from vqathinker_verl.config.compose import InputError
from vqathinker_verl.runner import launch


def test_one_run_at_a_time_in_a_folder(tmp_path):
    with (
        launch.lock_output_dir(tmp_path),
        pytest.raises(InputError, match="another run"),
        launch.lock_output_dir(tmp_path),
    ):
        pytest.fail("must not get here")
    with launch.lock_output_dir(tmp_path):
        pass


def test_a_folder_that_cannot_be_written_is_one_line_before_anything_starts(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setattr(sys, "argv", ["launch", "--output-dir", str(tmp_path / "file" / "out")])
    assert launch.main() == 2
    said = capsys.readouterr().err
    assert said.startswith(f"vqathinker: {tmp_path}/file/out: [Errno 20] Not a directory")
    assert said.count("\n") == 1


def test_processes_of_this_run_end_and_others_live_on():
    def sleeper(mark):
        script = "import subprocess, sys, time; subprocess.Popen(['sleep', '600']); time.sleep(600)"
        return subprocess.Popen([sys.executable, "-c", script], env={**os.environ, launch.RUN_MARK: mark})

    ours, other = sleeper("ours"), sleeper("other")
    try:
        end = time.monotonic() + 20
        while not psutil.Process(ours.pid).children() and time.monotonic() < end:
            time.sleep(0.05)
        child = psutil.Process(ours.pid).children()[0]
        assert launch.end_processes("ours") == 2
        assert not psutil.pid_exists(ours.pid)
        assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
        assert other.poll() is None
    finally:
        launch.end_processes("other")
        other.wait(timeout=10)


class TestTrain:
    def test_a_failure_ends_with_its_reason_and_its_code(self, tmp_path):
        run = start_launcher(tmp_path, "raise ValueError('the reward is wrong')")
        _, err = run.communicate(timeout=60)
        assert run.returncode == 1
        assert "ValueError: the reward is wrong" in err
        assert "the reward is wrong" in (tmp_path / "train.log").read_text()

    def test_the_watchdogs_words_come_first(self, tmp_path):
        body = (
            "import sys\nprint('watchdog: no progress in phase weight sync')\nprint('\\tclass_name: TaskRunnerV1')\n"
            "raise RuntimeError('actor died')"
        )
        run = start_launcher(tmp_path, body)
        _, err = run.communicate(timeout=60)
        assert "Reason: watchdog: no progress in phase weight sync\n" in err

    def test_a_reason_of_several_lines_is_complete_and_the_log_before_it_is_shown(self, tmp_path):
        body = (
            "print('\\n'.join(f'loading part {n}' for n in range(40)), flush=True)\n"
            "raise ValueError('the model cannot be read:\\n  no such host\\n  no such file')"
        )
        run = start_launcher(tmp_path, body, verbose=False)
        out, err = run.communicate(timeout=60)
        said = err.splitlines()
        assert said[-4] == "vqathinker: the run stopped with exit code 1. Reason: ValueError: the model cannot be read:"
        assert [line.strip() for line in said[-3:-1]] == ["no such host", "no such file"]
        assert said[-1].startswith(f"vqathinker: complete log: {tmp_path}/train.log; Ray's logs: ")
        before = [line for line in said[:-4] if line.startswith("  | ")]
        assert len(before) == 15
        assert before[0].startswith("  | loading part 3")
        assert before[-1] == "  |   no such file"
        assert "loading part 20" not in out + err
        assert "loading part 20" in (tmp_path / "train.log").read_text()
        record = json.loads((tmp_path / "run.json").read_text())
        assert record["starts"][0]["code"] == 1
        assert record["starts"][0]["reason"].endswith("no such file")

    @pytest.mark.e2e  # half a minute of waiting
    def test_rays_own_last_words_are_a_reason(self, tmp_path):
        """Its control service was killed; half a minute later Ray ends the driver from its C++ side."""
        body = (
            "import time, psutil, ray\nray.init(num_cpus=1, include_dashboard=False)\n"
            "children = psutil.Process().children(recursive=True)\n"
            "next(child for child in children if child.name() == 'gcs_server').kill()\n"
            "time.sleep(100)"
        )
        run = start_launcher(tmp_path, body)
        _, err = run.communicate(timeout=200)
        assert "Reason: Failed to connect to GCS within 30 seconds. GCS may have been killed" in err

    def test_an_actor_that_died_is_named(self, tmp_path):
        """In Ray's words: its error says that an actor died, and a line below it which one."""
        body = (
            "import ray\nray.init(num_cpus=1, include_dashboard=False)\n"
            "@ray.remote\nclass Scorer:\n    def end(self):\n        import os; os._exit(1)\n"
            "ray.get(Scorer.remote().end.remote())"
        )
        run = start_launcher(tmp_path, body)
        _, err = run.communicate(timeout=120)
        reason = next(line for line in err.splitlines() if "Reason: " in line)
        assert "ActorDiedError: The actor died unexpectedly" in reason
        assert reason.endswith("[died before: Scorer]")

    @pytest.mark.e2e  # three starts of Ray
    def test_its_ray_serves_nobody_else(self, tmp_path):
        """Ray runs what it is sent, and listens on the machine's address; Ray 2.60 asks for the user's token."""
        body = (
            "import os, subprocess, sys, ray\nray.init(num_cpus=1, include_dashboard=False)\n"
            "address = ray.get_runtime_context().gcs_address\n"
            "join = f\"import ray; ray.init('{address}', log_to_driver=False); print(len(ray.nodes()))\"\n"
            "for token in ({}, {'RAY_AUTH_TOKEN': '0' * 64}):\n"
            "    changed = {**os.environ, **token}\n"
            "    print('joined', subprocess.run([sys.executable, '-c', join], env=changed).returncode)\n"
        )
        run = start_launcher(tmp_path, body)
        out, _ = run.communicate(timeout=200)
        assert [line for line in out.splitlines() if line.startswith("joined")] == ["joined 0", "joined 1"]

    def test_a_signal_that_ended_the_driver_is_named(self, tmp_path):
        run = start_launcher(tmp_path, "import os; print('OSError: broken', flush=True); os.kill(os.getpid(), 9)")
        _, err = run.communicate(timeout=60)
        assert run.returncode == 128 + signal.SIGKILL
        assert "Reason: verl's driver was ended by SIGKILL; the last error printed: OSError: broken\n" in err

    def test_workers_that_hold_the_output_open_do_not_hold_the_launcher(self, tmp_path):
        body = (
            "import os, subprocess\nsubprocess.Popen(['sleep', '600'], start_new_session=True)\n"
            "os.kill(os.getpid(), 9)\n"
        )
        run = start_launcher(tmp_path, body)
        run.communicate(timeout=60)
        assert run.returncode == 128 + signal.SIGKILL

    TALK = "for number in range(20_000): print('x' * 100)\nraise ValueError('the reward is wrong')"  # fills any pipe

    @pytest.mark.parametrize("verbose", [True, False])
    def test_a_log_on_a_full_disk_does_not_stop_the_run(self, tmp_path, verbose):
        (tmp_path / "train.log").symlink_to("/dev/full")
        run = start_launcher(tmp_path, self.TALK, verbose=verbose)
        out, err = run.communicate(timeout=60)
        assert run.returncode == 1
        assert (out.count("\n") >= 20_000) == verbose
        assert err.count("train.log is not complete: [Errno 28] No space left on device") == 1
        assert "Reason: ValueError: the reward is wrong" in err

    @pytest.mark.parametrize("verbose", [True, False])
    def test_nor_does_a_reader_that_leaves(self, tmp_path, verbose):
        run = start_launcher(tmp_path, self.TALK, verbose=verbose)
        run.stdout.close()
        err = run.stderr.read()
        assert run.wait(timeout=60) == 1
        assert "Reason: ValueError: the reward is wrong" in err
        assert (tmp_path / "train.log").read_text().count("x" * 100) == 20_000

    def test_metrics_that_cannot_be_merged_do_not_hide_the_failure(self, tmp_path):
        body = (
            "import os; path = os.environ['VERL_FILE_LOGGER_PATH']\n"
            "open(path, 'w').write('{\"step\": 1, \"data\": {}}\\n')\n"
            "merged = path.replace('metrics/0000.jsonl', 'metrics.jsonl'); os.remove(merged); os.mkdir(merged)\n"
            "raise ValueError('the reward is wrong')"
        )
        run = start_launcher(tmp_path, body)
        _, err = run.communicate(timeout=60)
        assert run.returncode == 1
        assert "metrics.jsonl was not written: [Errno 21] Is a directory" in err
        assert "Reason: ValueError: the reward is wrong" in err

    def test_every_start_writes_its_own_metrics_and_they_are_merged(self, tmp_path):
        body = (
            "import os\nnumber = len(os.listdir(os.path.dirname(os.environ['VERL_FILE_LOGGER_PATH'])))\n"
            "with open(os.environ['VERL_FILE_LOGGER_PATH'], 'w') as f:\n"
            '    f.write(\'{"step": %d, "data": {"reward/overall": 1.0}}\\n\' % number)\n'
        )
        for _ in range(2):
            run = start_launcher(tmp_path, body)
            run.communicate(timeout=60)
            assert run.returncode == 0
        assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2

    def test_what_workers_must_know_travels_with_the_job(self, tmp_path):
        """A cluster that is up has its nodes' environment, not this run's."""
        run = start_launcher(tmp_path, "import sys; print('\\n'.join(sys.argv))")
        arguments = run.communicate(timeout=60)[0].splitlines()
        path = tmp_path / "metrics" / "0000.jsonl"
        assert f'++ray_kwargs.ray_init.runtime_env.env_vars.VERL_FILE_LOGGER_PATH="{path}"' in arguments

    def test_the_setting_of_the_screen_does_not_reach_vllm(self, tmp_path, monkeypatch):
        """It reads VERBOSE as a number, and ends on anything else."""
        monkeypatch.setenv("VERBOSE", "yes")
        run = start_launcher(tmp_path, "import os; print('VERBOSE' in os.environ)")
        assert run.communicate(timeout=60)[0] == "False\n"

    def test_a_ray_of_its_own_unless_one_is_named(self, tmp_path, monkeypatch):
        for address, own in (("", True), ("10.0.0.1:6379", False)):
            monkeypatch.setenv("RAY_ADDRESS", address)
            run = start_launcher(tmp_path, "import sys; print('\\n'.join(sys.argv))")
            arguments = run.communicate(timeout=60)[0].splitlines()
            assert ("++ray_kwargs.ray_init.address=local" in arguments) == own

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    def test_ctrl_c_ends_the_whole_run(self, tmp_path, number):
        run = start_launcher(tmp_path, "import time; print('started', flush=True); time.sleep(600)")
        assert run.stdout.readline().strip() == "started"
        run.send_signal(number)
        _, errors = run.communicate(timeout=60)
        assert run.returncode == 128 + number
        assert f"stopped by {number.name}; no checkpoint was saved yet" in errors
        assert not (tmp_path / "ray").is_symlink()

    def test_ctrl_c_says_where_the_next_start_resumes_and_what_was_done(self, tmp_path):
        (tmp_path / "checkpoints").mkdir()
        (tmp_path / "checkpoints" / "latest_checkpointed_iteration.txt").write_text("20")
        body = (
            "import json, os, time\n"
            "line = json.dumps({'step': 21, 'data': {'timing_s/step': 2.0, 'reward/overall': 1.5}})\n"
            "open(os.environ['VERL_FILE_LOGGER_PATH'], 'w').write(line + '\\n'); time.sleep(600)"
        )
        run = start_launcher(tmp_path, body, verbose=False, resumed=20)
        while not run.stdout.readline()[9:].startswith("step 21/21 reward=1.500"):
            assert run.poll() is None
        run.send_signal(signal.SIGINT)
        out, errors = run.communicate(timeout=60)
        assert run.returncode == 130
        assert errors == "vqathinker: stopped by SIGINT; the same command resumes from the checkpoint of step 20\n"
        assert out.splitlines()[1].startswith("21 steps in 0:")

    def test_under_nohup_a_run_outlives_its_terminal(self, tmp_path):
        run = start_launcher(tmp_path, "import time; print('started', flush=True); time.sleep(4)", before=["nohup"])
        assert run.stdout.readline().strip() == "started"
        run.send_signal(signal.SIGHUP)
        run.communicate(timeout=60)
        assert run.returncode == 0

    def test_rays_logs_stay_after_a_failure_and_until_the_next_start(self, tmp_path):
        folders = []
        for _ in range(2):
            run = start_launcher(tmp_path, "raise ValueError('broken')")
            _, err = run.communicate(timeout=60)
            folders.append((tmp_path / "ray").readlink())
            assert f"Ray's logs: {folders[-1]}" in err
        assert not folders[0].exists()
        assert folders[1].is_dir()
        run = start_launcher(tmp_path, "pass")
        run.communicate(timeout=60)
        assert not folders[1].exists()
        assert not (tmp_path / "ray").is_symlink()

    def test_a_link_to_something_else_is_not_followed(self, tmp_path):
        precious = tmp_path / "vqa-precious"
        precious.mkdir()
        (tmp_path / "ray").symlink_to(precious)
        launch.remove_ray_dir(tmp_path)
        assert precious.is_dir()


@pytest.fixture
def config():
    return OmegaConf.create(
        {"trainer": {"logger": ["console", "file", "wandb"], "resume_mode": "auto", "default_local_dir": "/no/such"}}
    )


def test_verls_console_lines_are_left_out_where_the_screen_is_drawn(config):
    assert launch.logger_override(config, verbose=False) == "trainer.logger=[file,wandb]"
    assert launch.logger_override(config, verbose=True) == "trainer.logger=[console,file,wandb]"
    config.trainer.logger = "console"
    assert launch.logger_override(config, verbose=False) == "trainer.logger=[file]"


def test_the_step_that_a_start_resumes_from(config, tmp_path):
    assert launch.resumed_step(config, []) == 0
    config.trainer.default_local_dir = str(tmp_path)
    (tmp_path / "latest_checkpointed_iteration.txt").write_text("20")
    assert launch.resumed_step(config, []) == 20
    chosen = [f"trainer.resume_from_path={tmp_path}/global_step_10"]
    assert launch.resumed_step(config, ["trainer.resume_mode=resume_path", *chosen]) == 10
    config.trainer.resume_mode = "disable"
    assert launch.resumed_step(config, []) == 0


class TestACompleteRun:
    @pytest.fixture
    def start(self, config, tmp_path, monkeypatch):
        """`main` on a run of six steps that are done; the configuration and the training are stand-ins."""
        folder = finished_run(tmp_path)
        (folder / "checkpoints" / "latest_checkpointed_iteration.txt").write_text("6")
        config.trainer.default_local_dir = str(folder / "checkpoints")
        facts = {"total_steps": 6}
        monkeypatch.setattr(sys, "argv", ["launch", "--output-dir", str(folder)])
        monkeypatch.setattr(launch, "check", lambda *_: config)
        monkeypatch.setattr(launch, "resume_overrides", lambda _: [])
        monkeypatch.setattr(launch, "facts_of", lambda _: facts)
        monkeypatch.setattr(launch, "train", lambda *_, **__: 77)
        return facts, config

    def test_is_not_run_again(self, start, capsys):
        assert launch.main() == 0
        out, err = capsys.readouterr()
        assert "6 steps in 8:15" in out
        assert err == (
            "vqathinker: this run is complete: 6 of 6 steps are done. --steps 12 (TOTAL_STEPS) continues it, another "
            "--output-dir (OUTPUT_DIR) starts a new one\n"
        )

    def test_continues_with_more_steps(self, start):
        start[0]["total_steps"] = 12
        assert launch.main() == 77

    def test_is_validated_where_that_is_asked_for(self, start):
        start[1].trainer.val_only = True
        assert launch.main() == 77

    def test_a_run_that_cannot_be_described_is_trained(self, start, tmp_path, monkeypatch):
        monkeypatch.setattr(launch, "facts_of", lambda _: 1 / 0)
        assert launch.main() == 77
        assert "ZeroDivisionError" in (tmp_path / "train.log").read_text()


def test_a_full_disk_is_found(tmp_path, monkeypatch):
    folders = (tmp_path, tmp_path / "checkpoints", tmp_path / "none")
    folders[1].mkdir()
    free = {folders[0]: 2**30, folders[1]: 4096}
    monkeypatch.setattr(launch.shutil, "disk_usage", lambda path: SimpleNamespace(free=free[path]))
    assert launch.full_disk(*folders) == folders[1]
    free[folders[1]] = 2**30
    assert launch.full_disk(*folders) is None


def test_outputs_stay_under_the_output_folder():
    for override in launch.outputs_in(Path("/somewhere/out")):
        assert "=/somewhere/out/" in override
