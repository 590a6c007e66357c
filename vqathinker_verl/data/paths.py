"""Check that a label names only files inside the video root."""

import os
import posixpath
from functools import lru_cache
from pathlib import Path


def inside_root(video: str, video_root: Path | None, *, follow_links: bool = False) -> str:
    """A video's path relative to the root, with forward slashes, whichever way the label spells it.

    Args:
        video: The path as the label states it.
        video_root: The folder that it must be in; None: there are no videos, and the text alone is checked.
        follow_links: Whether symbolic links inside the root may lead out of it. Who writes a label need not be who
            made the links: a link to a home folder would open all of it to the labels.

    Raises:
        ValueError: The path is empty or leads out of the root.
    """
    if not video:
        raise ValueError("no video; expected a path")
    if "\0" in video:
        raise ValueError(f"path {video!r} holds a zero byte")
    try:
        video.encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(f"path {video!r} is no valid text") from None
    name = video.replace("\\", "/")
    if posixpath.isabs(name):
        if video_root is None:
            raise ValueError(f"{video} is absolute; expected a path relative to the video root")
        name = os.path.relpath(name, video_root)
    name = posixpath.normpath(name)
    if name in (".", "..") or name.startswith("../"):
        raise ValueError(f"{video} leaves the video root")
    if video_root is not None and not follow_links:
        real = os.path.realpath(os.path.join(video_root, *name.split("/")))
        root = _real(os.path.abspath(video_root))
        if os.path.commonpath([real, root]) != root:
            raise ValueError(
                f"{video} leaves the video root by a symbolic link, to {real}; move it there, or allow such links "
                "with --follow-links"
            )
    return name


@lru_cache(maxsize=16)
def _real(root: str) -> str:
    return os.path.realpath(root)
