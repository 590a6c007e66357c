"""What is left in /dev/shm: a dead run's goes, and whatever somebody maps or may map stays."""

import multiprocessing
import multiprocessing.shared_memory
import os
import subprocess
import sys
import time

import pytest

from vqathinker_verl.runner import launch, shared_memory


def orphaned_segment():
    """A shared-memory segment whose process is gone, as a SIGKILL leaves it."""
    script = (
        "import os\nfrom multiprocessing import shared_memory, resource_tracker\n"
        "m = shared_memory.SharedMemory(create=True, size=4096)\n"
        "resource_tracker.unregister(m._name, 'shared_memory')\n"
        "print(m._name.lstrip('/'), flush=True)\nos._exit(0)\n"
    )
    name = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.strip()
    return shared_memory.SHARED_MEMORY / name


def test_what_a_killed_run_left_in_shared_memory_is_removed_at_the_next_start(tmp_path):
    with launch.lock_output_dir(tmp_path):
        left_behind = orphaned_segment()
    assert left_behind.exists()
    with launch.lock_output_dir(tmp_path):
        assert not left_behind.exists()


def test_a_semaphore_in_use_is_left_alone():
    before = time.time() - 1
    semaphore = multiprocessing.get_context("spawn").Semaphore()
    path = shared_memory.SHARED_MEMORY / f"sem.{semaphore._semlock.name.lstrip('/')}"
    assert path.exists()
    assert path not in shared_memory.remove_shared_memory(since=before)
    assert path.exists()


def test_shared_memory_that_nobody_maps_is_removed():
    before = time.time()
    left_behind = orphaned_segment()
    alive = multiprocessing.shared_memory.SharedMemory(create=True, size=4096)
    try:
        assert left_behind.exists()
        removed = shared_memory.remove_shared_memory(since=before - 1)
        assert left_behind in removed
        assert not left_behind.exists()
        assert (shared_memory.SHARED_MEMORY / alive.name.lstrip("/")).exists()
    finally:
        alive.close()
        alive.unlink()


@pytest.mark.parametrize(
    ("pids", "ipc", "removed"),
    [
        ("first", "first", True),  # no container
        ("own", "own", True),  # a container
        ("own", "first", False),  # one that shares /dev/shm with processes that it does not see: docker's --ipc=host
    ],
)
def test_shared_memory_of_processes_that_are_not_seen_is_left_alone(monkeypatch, pids, ipc, removed):
    for name, first in (("PID", pids == "first"), ("IPC", ipc == "first")):
        number = os.stat(f"/proc/self/ns/{name.lower()}").st_ino
        monkeypatch.setattr(shared_memory, f"FIRST_{name}_NAMESPACE", number if first else number + 1)
    before = time.time() - 1
    left_behind = orphaned_segment()
    assert (left_behind in shared_memory.remove_shared_memory(since=before)) == removed
    left_behind.unlink(missing_ok=True)


def test_segments_of_another_run_are_safe_while_it_makes_them():
    script = (
        "import sys, time; from multiprocessing.shared_memory import SharedMemory\n"
        "end = time.monotonic() + 4\n"
        "while time.monotonic() < end:\n"
        "    segment = SharedMemory(create=True, size=4096)\n"
        "    time.sleep(0.002)\n"
        "    SharedMemory(name=segment.name).close()\n"  # the reader, who finds it by its name
        "    segment.close(); segment.unlink()\n"
    )
    started = time.time() - 1
    other_run = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True)
    while other_run.poll() is None:
        shared_memory.remove_shared_memory(since=started)
    assert other_run.returncode == 0, other_run.stderr.read()
