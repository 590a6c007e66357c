"""Memory of all processes of a run together, sampled while it lasts.

Shared pages (Ray's object store, copy-on-write libraries) are counted once: each process's proportional set size is
added up, which a sum of resident sizes would not do.
"""

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path


def proportional_bytes(pid: int) -> int:
    """Proportional set size of one process in bytes; 0 when it has ended (Linux, /proc/PID/smaps_rollup)."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return 1024 * sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))


class MemoryLog(threading.Thread):
    """Appends {"time", "bytes", "processes"} to a JSONL file every few seconds.

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
        """Sample until stopped."""
        with self._path.open("a", encoding="utf-8") as file:
            while not self._stopped.wait(self._seconds):
                sizes = [size for pid in self._pids() if (size := proportional_bytes(pid))]
                file.write(json.dumps({"time": time.time(), "bytes": sum(sizes), "processes": len(sizes)}) + "\n")
                file.flush()

    def stop(self) -> None:
        """End the sampling."""
        self._stopped.set()
        self.join()


def peak_bytes(path: Path) -> int:
    """The largest sample of a memory log; 0 where there is none."""
    if not path.is_file():
        return 0
    return max((json.loads(line)["bytes"] for line in path.read_text().splitlines() if line.endswith("}")), default=0)
