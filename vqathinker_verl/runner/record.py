"""OUTPUT_DIR/run.json: what the launcher knows of a run, so that other processes can show it.

    {"facts": {...}, "starts": [{"began": ..., "metrics": "0000", "resumed": 0, "reached": {"ray": ...}, ...}]}

Times are seconds since the epoch.
"""

import dataclasses
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vqathinker_verl.files import write_json

FILE = "run.json"


@dataclass
class Start:
    """One start of a run.

    Attributes:
        began: when the launcher began.
        metrics: name, without suffix, of its file in OUTPUT_DIR/metrics.
        resumed: the step of the checkpoint it resumes from; 0 for none.
        reached: when each phase of the start-up was done, by name (startup.PHASES).
        ended: when it ended; None while it runs, or if the launcher was killed.
        code: exit code.
        reason: why it failed.
    """

    began: float
    metrics: str
    resumed: int = 0
    reached: dict[str, float] = field(default_factory=dict)
    ended: float | None = None
    code: int | None = None
    reason: str | None = None


@dataclass
class Record:
    """A run: what was known of it before it started (facts.facts_of), and its starts."""

    facts: dict[str, Any] = field(default_factory=dict)
    starts: list[Start] = field(default_factory=list)

    def save(self, output_dir: Path) -> None:
        """Write OUTPUT_DIR/run.json; a reader sees the old file or the new one."""
        write_json(output_dir / FILE, dataclasses.asdict(self))


def read_record(output_dir: Path) -> Record:
    """OUTPUT_DIR/run.json; an empty record where there is none, or where it is not readable."""
    try:
        content = json.loads((output_dir / FILE).read_text(encoding="utf-8"))
        return Record(content["facts"], [Start(**start) for start in content["starts"]])
    except (OSError, ValueError, KeyError, TypeError):
        return Record()


def seconds_of(start: Start, output_dir: Path) -> float:
    """Return how long a start lasted; if its launcher was killed, until its last line of metrics."""
    ended = start.ended or max(start.began, *start.reached.values(), _modified(output_dir / _metrics_of(start)))
    return max(ended - start.began, 0.0)


def silent_seconds(start: Start, output_dir: Path) -> float:
    """Return the seconds since the run's last start wrote a memory sample, which it does every few seconds."""
    files = (output_dir / "memory.jsonl", output_dir / _metrics_of(start), output_dir / FILE)
    return max(time.time() - max(start.began, *map(_modified, files)), 0.0)


def _metrics_of(start: Start) -> str:
    return f"metrics/{start.metrics}.jsonl"


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # not written yet
        return 0.0
