import importlib.metadata
import os
import subprocess
import sys
from types import SimpleNamespace

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
    assert len(lines) == 9
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
    assert len(lines) == 9


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    """An nvidia-smi that lists what it is told, and a torch that says what it is told."""

    def installed(listing, torch="13.0 True 2"):
        for name, script in (
            ("nvidia-smi", f"#!/bin/sh\ncat <<'END'\n{listing}\nEND\n"),
            ("python", f"#!/bin/sh\necho {torch}\n"),
        ):
            (tmp_path / name).write_text(script)
            (tmp_path / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    return installed


GPUS = "GPU 0: NVIDIA H100 (UUID: GPU-a)\nGPU 1: NVIDIA H100 (UUID: GPU-b)"


class TestCuda:
    def test_nothing_to_check_without_a_gpu(self, monkeypatch):
        monkeypatch.setenv("PATH", "")
        assert doctor.cuda() == "not needed without a GPU"

    def test_an_old_driver(self, nvidia_smi):
        nvidia_smi(GPUS, torch="13.0 False 0")
        with pytest.raises(RuntimeError, match=r"2 GPUs answer, but torch finds none: CUDA 13\.0 needs .* R580"):
            doctor.cuda()

    def test_the_environment_without_cuda(self, nvidia_smi):
        nvidia_smi(GPUS, torch="None False 0")
        with pytest.raises(RuntimeError, match=r"install\.sh gpu"):
            doctor.cuda()

    def test_no_headers_for_triton(self, nvidia_smi, monkeypatch):
        nvidia_smi(GPUS)
        monkeypatch.setattr(doctor.sysconfig, "get_paths", lambda: {"include": "/nowhere"})
        with pytest.raises(RuntimeError, match=r"C compiler and /nowhere/Python\.h; install gcc and python3\."):
            doctor.cuda()

    def test_mig_is_named(self, nvidia_smi, monkeypatch, tmp_path):
        nvidia_smi(GPUS + "\n  MIG 1g.10gb Device 0: (UUID: MIG-x)")
        (tmp_path / "Python.h").touch()
        (tmp_path / "cc").write_text("")
        (tmp_path / "cc").chmod(0o755)
        monkeypatch.setattr(doctor.sysconfig, "get_paths", lambda: {"include": str(tmp_path)})
        said = doctor.cuda()
        assert said.startswith("torch uses 2 GPUs through CUDA 13.0, Triton can compile; MIG is on")


def test_little_shared_memory_is_refused_with_the_remedy(monkeypatch):
    import psutil

    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=64 * 2**30))
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: SimpleNamespace(free=64e6))
    with pytest.raises(RuntimeError, match=r"/dev/shm has 0\.06 GiB free.*--shm-size=16g"):
        doctor.memory()


def test_another_verl_is_refused(monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.8.0")
    with pytest.raises(RuntimeError, match=r"only verl 0\.9\.1 was tested"):
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
