"""Memory, threads and open files of a run's processes, sampled while it lasts.

Shared pages (Ray's object store, copy-on-write libraries) are counted once: each process's proportional set size is
added up, which a sum of resident sizes would not do.
"""

import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any


def proportional_bytes(pid: int) -> int:
    """Proportional set size of one process in bytes; 0 when it has ended (Linux, /proc/PID/smaps_rollup)."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return 1024 * sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))


def name_of(pid: int) -> str:
    """What a process calls itself: Ray's and vLLM's set a title; others are named by what they run."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_text(errors="replace").replace("\0", " ").split()
    except OSError:
        return ""
    if words and words[0].startswith("ray::"):
        return words[0].split(".")[0]  # without the method that it is in
    if "-m" in words[:-1]:
        return words[words.index("-m") + 1]
    scripts = [word for word in words if not word.startswith("-")]
    python = len(scripts) > 1 and os.path.basename(scripts[0]).startswith("python")
    return os.path.basename(scripts[1 if python else 0]) if scripts else ""


def sample(pids: list[int]) -> dict[str, Any]:
    """One line of the log, over the processes that are alive: sums, and bytes by name (processes of one name together).

    Counted are threads and open file descriptors (Linux, /proc); those of another user count as none.
    """
    bytes_of: Counter[str] = Counter()
    processes = threads = files = 0
    for pid in pids:
        if size := proportional_bytes(pid):
            bytes_of[name_of(pid)] += size
            processes += 1
            threads += _entries(f"/proc/{pid}/task")
            files += _entries(f"/proc/{pid}/fd")
    return {
        "time": time.time(),
        "bytes": bytes_of.total(),
        "processes": processes,
        "threads": threads,
        "files": files,
        "bytes_of": dict(bytes_of),
    }


def _entries(folder: str) -> int:
    try:
        return len(os.listdir(folder))
    except OSError:  # it has just ended
        return 0


class MemoryLog(threading.Thread):
    """Appends a `sample` to a JSONL file every few seconds, so that what grows over days has a name.

    Args:
        path: the file.
        pids: gives the processes of the run at the moment of asking.
        seconds: between two samples.
    """

    def __init__(self, path: Path, pids: Callable[[], list[int]], seconds: float = 5.0) -> None:
        super().__init__(name="vqathinker-memory", daemon=True)
        self._path, self._pids, self._seconds = path, pids, seconds
        self._stopped = threading.Event()
        self.start()

    def run(self) -> None:
        """Sample until stopped; a sample that cannot be written is left out, and who must write says why."""
        while not self._stopped.wait(self._seconds):
            line = json.dumps(sample(self._pids()))
            with suppress(OSError), self._path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")

    def stop(self) -> None:
        """End the sampling."""
        self._stopped.set()
        self.join()


def peak_bytes(path: Path) -> int:
    """The largest sample of a memory log; 0 where there is none. Lines that were cut off are left out."""
    peak = 0
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        with suppress(json.JSONDecodeError):
            peak = max(peak, json.loads(line)["bytes"])
    return peak
