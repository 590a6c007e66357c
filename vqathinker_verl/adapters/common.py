"""What the adapters share: reading a MOS and a video's id out of what other projects hand over."""

import math
from collections.abc import Hashable, Mapping
from typing import Any


def as_mos(value: object, name: str) -> float:
    """Return a ground truth as a MOS; data files of other projects often hold it as text.

    Raises:
        ValueError: if it is not a finite number; `name` says where it stands.
    """
    try:
        mos = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        mos = math.nan
    if not math.isfinite(mos):
        raise ValueError(f"{name}: expected the MOS of the video, a finite number, got {value!r}")
    return mos


def video_id_of(mapping: Mapping[str, Any] | None, name: str) -> Hashable:
    """Return the `video_id` that a row carries.

    Raises:
        ValueError: if it carries none: which responses belong together is never guessed.
    """
    video_id = mapping.get("video_id") if isinstance(mapping, Mapping) else None
    if video_id is None:
        raise ValueError(f"{name}: has no video_id; every response needs the id of its video, to know its group")
    return video_id  # type: ignore[no-any-return]
