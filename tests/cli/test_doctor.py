import importlib.metadata
import os
import subprocess
import sys

import pytest

from vqathinker_verl.cli import doctor
from vqathinker_verl.cli import main as cli


@pytest.fixture
def without_the_slow_plugin_check(monkeypatch):
    """Nor the free memory, which other work on the machine takes."""
    monkeypatch.setattr(doctor, "plugin", lambda: "loads")
    monkeypatch.setattr(doctor, "memory", lambda: "12 GiB available")


def test_this_installation_is_sound(capsys, without_the_slow_plugin_check):
    assert cli.main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 8
    assert all(line.startswith("ok ") for line in lines)
    assert any("verl 0.9.1" in line for line in lines)


@pytest.mark.parametrize(
    ("check", "error"),
    [("memory", "3.0 GiB available"), ("decoder", "no video decoder"), ("device", "driver is broken")],
)
def test_a_failed_check_is_shown_and_the_others_still_run(
    capsys, monkeypatch, without_the_slow_plugin_check, check, error
):
    def fail():
        raise RuntimeError(error)

    monkeypatch.setattr(doctor, check, fail)
    assert cli.main(["doctor"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("FAIL")] == [f"FAIL  {check:10}{error}"]
    assert len(lines) == 8


def test_another_verl_is_refused(monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.8.0")
    with pytest.raises(RuntimeError, match=r"tested with verl 0\.9\.1"):
        doctor.versions()


def test_a_policy_that_keeps_the_plugin_out_is_named(monkeypatch):
    monkeypatch.setenv("VERL_USE_EXTERNAL_PLUGINS", "none")
    with pytest.raises(RuntimeError, match="VERL_USE_EXTERNAL_PLUGINS=none"):
        doctor.plugin()


def test_a_full_disk_is_said_with_the_folder_that_exists(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "MIN_DISK_GB", 10**9)
    with pytest.raises(RuntimeError, match=str(tmp_path)):
        doctor.disk(tmp_path / "not" / "yet")


@pytest.mark.e2e
def test_the_plugin_is_loaded_as_verl_loads_it(tmp_path):
    """In a fresh process; and the reason is shown when it cannot be."""
    command = [sys.executable, "-c", "from vqathinker_verl.cli import doctor; print(doctor.plugin())"]
    environment = {**os.environ, "VERL_PLATFORM": "cpu"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert "its trainers are registered" in done.stdout, done.stderr

    (tmp_path / "wrapt.py").write_text("raise ImportError('wrapt is broken here')")
    environment["PYTHONPATH"] = str(tmp_path)
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode != 0
    assert "wrapt is broken here" in done.stderr
