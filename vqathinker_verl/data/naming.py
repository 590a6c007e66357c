"""Normalise the names of a video, and translate them between a dataset's naming schemes."""

import os
import posixpath
import re
import unicodedata
from collections.abc import Sequence

from vqathinker_verl.frames.suffixes import VIDEO_SUFFIXES

# Raw pictures are not decoded, but labels may name them where the videos were converted.
SUFFIXES = VIDEO_SUFFIXES | {".yuv"}


def normal_name(name: str) -> str:
    r"""The spelling under which names are compared: forward slashes, no "./", composed Unicode (NFC).

    >>> normal_name("a\\.\\b.mp4"), normal_name("./e\u0301.mp4") == "\u00e9.mp4"
    ('a/b.mp4', True)
    """
    return posixpath.normpath(unicodedata.normalize("NFC", name.replace("\\", "/"))) if name else ""


def without_suffix(name: str) -> str:
    """A name without its suffix, if that is a video's: names may hold dots.

    >>> without_suffix("a/b.MP4"), without_suffix("c_t_20.0")
    ('a/b', 'c_t_20.0')
    """
    stem, suffix = os.path.splitext(name)
    return stem if suffix.lower() in SUFFIXES else name


def other_names(name: str, schemes: Sequence[str]) -> list[str]:
    """Names that a video has in the other schemes of its dataset; none if `name` is of no scheme.

    Args:
        name: Path of the video.
        schemes: Paths with {id} for the part that they have in common.

    >>> other_names("orig_12_540_5s.mp4", ["{id}.mp4", "orig_{id}_540_5s.mp4"])
    ['12.mp4']
    """
    # The longest fits first: "{id}.mp4" fits the names of nearly every other scheme.
    for scheme in sorted(schemes, key=len, reverse=True):
        found = re.fullmatch(re.escape(scheme).replace(r"\{id\}", "([^/]+)"), name)
        if found is not None:
            names = [other.replace("{id}", found.group(1)) for other in schemes]
            return [other for other in names if other != name]
    return []
