"""Find and remove the shared memory that dead processes of a run have left.

Ray, vLLM and verl leave segments and semaphores behind when they die in the wrong order: gigabytes of /dev/shm, until
the machine starts again.
"""

import os
import re
import time
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")
SHARED_MEMORY_FILES = ("psm_*", "sem.mp-*", "verl_weights_*")
# The first namespaces of a system (include/linux/proc_ns.h). A container with `--ipc=host` has this namespace of shared
# memory but another one of processes, so it shares /dev/shm with processes that it does not see.
FIRST_PID_NAMESPACE, FIRST_IPC_NAMESPACE = 0xEFFFFFFC, 0xEFFFFFFF


def sees_who_maps_shared_memory() -> bool:
    """Whether every process that may map a file of our /dev/shm is one that we see."""
    pids, ipc = (os.stat(f"/proc/self/ns/{kind}").st_ino for kind in ("pid", "ipc"))
    return pids == FIRST_PID_NAMESPACE or ipc != FIRST_IPC_NAMESPACE


def orphaned_shared_memory(since: float) -> list[Path]:
    """Return files in /dev/shm that Python (segments, semaphores) or verl (weights) made after `since`, unmapped now.

    The result is empty if this cannot be known: in a container that shares the system's /dev/shm but does not see the
    system's processes.
    """
    candidates: dict[Path, int] = {}
    if not sees_who_maps_shared_memory():
        return []
    for path in (path for pattern in SHARED_MEMORY_FILES for path in SHARED_MEMORY.glob(pattern)):
        try:
            status = path.stat()
        except FileNotFoundError:
            continue
        if status.st_uid == os.getuid() and status.st_mtime >= since:
            candidates[path] = status.st_ino
    # Who maps what is read after the files are listed, and twice: another run may be making its segment right now.
    # By inode: a semaphore is mapped under the temporary name that it was made with.
    for _ in range(2 if candidates else 0):
        mapped = mapped_shared_memory()
        candidates = {path: inode for path, inode in candidates.items() if inode not in mapped}
        time.sleep(0.1)
    return list(candidates)


def mapped_shared_memory() -> set[int]:
    """Inodes of the files of /dev/shm that some process maps."""
    inodes: set[int] = set()
    for maps in Path("/proc").glob("[0-9]*/maps"):
        try:
            inodes.update(int(inode) for inode in re.findall(r" (\d+) +/dev/shm/", maps.read_text()))
        except OSError:  # the process ended, or belongs to another user
            continue
    return inodes


def remove_shared_memory(since: float) -> list[Path]:
    """Remove these files; return those that were removed."""
    orphans = orphaned_shared_memory(since)
    for path in orphans:
        path.unlink(missing_ok=True)
    return orphans
