"""Opening every video once: in parallel, with a progress bar, resumed where it was interrupted."""

import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path

from vqathinker_verl.data.records import Record, Reject
from vqathinker_verl.frames import VideoError, VideoInfo, probe

# Names the rule by which a journal's counts, rates and sizes were read; those of another rule are read again.
COUNTED_BY = "pictures shown, images upright"


def probe_records(
    records: Sequence[Record], journal: Path, *, workers: int, timeout_seconds: float, progress: bool = True
) -> tuple[list[Record], list[Reject]]:
    """Open the video of every record whose file exists.

    Args:
        records: Checked records.
        journal: File that remembers the videos opened so far, by path, size and time of change. Failures are not
            remembered: they are tried again.
        workers: Videos opened at the same time.
        timeout_seconds: Longest wait for one video.
        progress: Draw a progress bar on standard error.

    Returns:
        The records with what their videos state, and those whose videos failed; both in the order given.
    """
    from tqdm import tqdm

    known = _read_journal(journal)
    infos: dict[str, VideoInfo] = {}
    errors: dict[str, str] = {}
    keys = {record.path: _file_key(record.path) for record in records if os.path.exists(record.path)}
    to_open = []
    for path, key in keys.items():
        if key in known:
            infos[path] = known[key]
        else:
            to_open.append(path)
    if to_open:
        journal.parent.mkdir(parents=True, exist_ok=True)
        with journal.open("a", encoding="utf-8") as file, ThreadPoolExecutor(workers) as executor:
            futures = {executor.submit(probe, path, timeout_seconds=timeout_seconds): path for path in to_open}
            try:
                finished = as_completed(futures)
                for future in tqdm(
                    finished, total=len(futures), desc="opening videos", disable=None if progress else True
                ):
                    path = futures[future]
                    try:
                        info = infos[path] = future.result()
                    except VideoError as error:
                        errors[path] = str(error)
                        continue
                    line = [COUNTED_BY, keys[path], info.total_frames, info.fps, info.height, info.width]
                    file.write(json.dumps(line) + "\n")
                    file.flush()
            except BaseException:
                # On an interrupt the videos in the queue must not be opened first.
                executor.shutdown(wait=False, cancel_futures=True)
                raise
    opened = [replace(record, info=infos.get(record.path)) for record in records if record.path not in errors]
    failed = [Reject(record.label, errors[record.path]) for record in records if record.path in errors]
    return opened, failed


Key = tuple[str, int, int]


def _file_key(path: str) -> Key:
    status = os.stat(path)
    return (path, status.st_size, status.st_mtime_ns)


def _read_journal(journal: Path) -> dict[Key, VideoInfo]:
    known: dict[Key, VideoInfo] = {}
    if journal.exists():
        for line in journal.read_text(encoding="utf-8").splitlines():
            try:
                counted_by, (path, size, changed), frames, fps, height, width = json.loads(line)
            except ValueError:
                continue  # the line that an interrupt cut, or one of an earlier version
            if counted_by != COUNTED_BY:
                continue
            known[(path, size, changed)] = VideoInfo(path, frames, fps, height, width)
    return known
