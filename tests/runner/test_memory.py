"""The memory log: what it names, counts and adds up."""

import json
import os
import subprocess
import sys
import time

import pytest

from vqathinker_verl.runner.memory import MemoryLog, name_of, peak_bytes, sample

SLEEPS = "import threading, time; threading.Thread(target=time.sleep, args=(600,), daemon=True).start(); "


@pytest.fixture
def started():
    """Starts a Python that says when it is ready, and ends it after the test."""
    processes = []

    def start(code):
        command = [sys.executable, "-c", f"{code}; print('ready', flush=True); time.sleep(600)"]
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE))
        assert processes[-1].stdout.readline() == b"ready\n"
        return processes[-1].pid

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_threads_and_files_are_counted(started):
    few = sample([started("import time")])
    more = sample([started(f"{SLEEPS} files = [open('/dev/null') for _ in range(50)]")])
    assert more["threads"] - few["threads"] == 1
    assert more["files"] - few["files"] == 50


def test_bytes_are_added_up_by_name(started):
    pids = [started("import time"), started("import time; kept = bytes(range(256)) * 400_000")]
    together = sample([*pids, os.getpid()])
    assert together["processes"] == 3
    assert sum(together["bytes_of"].values()) == together["bytes"]
    assert sample(pids[1:])["bytes"] - sample(pids[:1])["bytes"] > 90_000_000


def test_a_process_that_ended_is_left_out():
    ended = subprocess.Popen(["true"])
    ended.wait()
    assert sample([ended.pid])["processes"] == 0


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("ray::WorkerDict.update_actor", "ray::WorkerDict"),
        ("VLLM::EngineCore", "VLLM::EngineCore"),
        (f"{sys.executable} -m verl.trainer.main_ppo --config-name=x", "verl.trainer.main_ppo"),
        (f"{sys.executable} -u /some/where/agent.py --port=1", "agent.py"),
        ("/some/where/raylet --store=/tmp/x", "raylet"),
        (sys.executable, os.path.basename(sys.executable)),
    ],
)
def test_names(title, name, started):
    pid = started(f"import setproctitle, time; setproctitle.setproctitle({title!r})")
    assert name_of(pid) == name


def test_the_log_is_one_sample_a_line(tmp_path):
    log = MemoryLog(tmp_path / "memory.jsonl", lambda: [os.getpid()], seconds=0.05)
    time.sleep(0.5)
    log.stop()
    lines = [json.loads(line) for line in (tmp_path / "memory.jsonl").read_text().splitlines()]
    assert len(lines) > 1
    assert peak_bytes(tmp_path / "memory.jsonl") == max(line["bytes"] for line in lines)
    with (tmp_path / "memory.jsonl").open("a") as file:
        file.write('{"time": 1.0, "byt{"time": 2.0, "bytes": 1}\n{"ti')  # cut off by a kill, and gone on with
    assert peak_bytes(tmp_path / "memory.jsonl") == max(line["bytes"] for line in lines)


def test_without_a_log_the_peak_is_none(tmp_path):
    assert peak_bytes(tmp_path / "memory.jsonl") == 0
