"""A held-out part of the records, chosen by source and seed."""

import hashlib
from collections.abc import Sequence

from vqathinker_verl.data.records import LabelError, Record


def hold_out(records: Sequence[Record], share: float, seed: int) -> tuple[list[Record], list[Record]]:
    """Split records in two so that all videos of one source are on one side.

    Each dataset gives its own share. Sources are put in an order that depends on the seed and their names alone, and
    held out from its start until the share is reached: adding a video moves few others, and the order of the label
    file does not matter.

    Args:
        records: Checked records.
        share: Share of each dataset's videos to hold out, in (0, 1).
        seed: Another seed gives another choice.

    Returns:
        Those kept and those held out, both in the order given.

    Raises:
        LabelError: The share is out of range, or leaves one side empty.
    """
    if not 0 < share < 1:
        raise LabelError(f"--holdout: expected a share between 0 and 1, got {share:g}")
    videos: dict[str, dict[str, int]] = {}
    for record in records:
        sources = videos.setdefault(record.label.dataset, {})
        sources[record.source] = sources.get(record.source, 0) + 1
    held: set[tuple[str, str]] = set()
    for dataset, sources in videos.items():
        wanted = round(share * sum(sources.values()))
        count = 0
        for source in sorted(sources, key=lambda source: _rank(seed, dataset, source)):
            if count >= wanted:
                break
            held.add((dataset, source))
            count += sources[source]
    kept = [record for record in records if (record.label.dataset, record.source) not in held]
    out = [record for record in records if (record.label.dataset, record.source) in held]
    if not kept or not out:
        raise LabelError(f"--holdout {share:g}: leaves {len(kept)} videos to train on and {len(out)} held out")
    return kept, out


def _rank(seed: int, dataset: str, source: str) -> bytes:
    return hashlib.sha256(f"{seed}\0{dataset}\0{source}".encode()).digest()
