"""A held-out part of the records, chosen by source and seed."""

import re
from collections import Counter
from collections.abc import Sequence

from vqathinker_verl.data.records import LabelError, Record
from vqathinker_verl.seeding import seed_from


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
        for source in sorted(sources, key=lambda source: seed_from(seed, dataset, source)):
            if count >= wanted:
                break
            held.add((dataset, source))
            count += sources[source]
    kept = [record for record in records if (record.label.dataset, record.source) not in held]
    out = [record for record in records if (record.label.dataset, record.source) in held]
    if not kept or not out:
        raise LabelError(f"--holdout {share:g}: leaves {len(kept)} videos to train on and {len(out)} held out")
    return kept, out


# Names of several versions of one source. Each expression fits every path, so that it can be passed on as it is.
VERSIONS = (
    r"(?i)^(.+?)(?:[_-](?:crf|qp|pa|bitrate|level|dist)[_-]?\d[^/]*)?(?:\.\w+)?$",
    r"(?i)^(.+?)(?:[_-]\d+(?:k|kbps|fps|p)(?![^_.-])[^/]*)?(?:\.\w+)?$",
    r"^(.+?)(?:[_-]v?\d{1,3})?(?:\.\w+)?$",
)


def versions_apart(kept: Sequence[Record], held: Sequence[Record]) -> list[str]:
    """Warnings, one per dataset, where versions of one source seem to be on both sides of a split.

    Names tell versions: "_crf23", "_pa2", "_540p", a trailing number. Where a trailing number would make more than half
    of a dataset's videos versions of one source, as in clip_001.mp4 to clip_999.mp4, it is taken to count sources.
    """
    warnings = []
    for dataset in dict.fromkeys(record.label.dataset for record in kept):
        sides = [[r for r in side if r.label.dataset == dataset] for side in (kept, held)]
        if any(record.label.source for side in sides for record in side):
            continue  # the user named the sources
        for pattern in VERSIONS:
            train, val = ({_source(pattern, r): r.video for r in reversed(side)} for side in sides)
            count = Counter(_source(pattern, record) for side in sides for record in side)
            both = [source for source in train if source in val]
            if not both or (pattern == VERSIONS[-1] and 2 * max(count.values()) > count.total()):
                continue
            warnings.append(
                f"{dataset}: {len(both)} sources seem to have versions on both sides of the split, such as "
                f"{train[both[0]]} and {val[both[0]]}; to keep them together pass --source-pattern '{pattern}'"
            )
            break
    return warnings


def _source(pattern: str, record: Record) -> str:
    found = re.search(pattern, record.label.video)
    return found.group(1) if found is not None else record.video
