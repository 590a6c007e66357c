"""Suffixes of the files that are opened: images by image.py, all others by container.py."""

import os

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
VIDEO_SUFFIXES = IMAGE_SUFFIXES | {
    ".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2", ".mj2", ".f4v", ".mkv", ".mk3d", ".webm", ".avi", ".divx",
    ".ts", ".m2ts", ".mts", ".mpg", ".mpeg", ".mpe", ".m1v", ".m2v", ".vob", ".flv", ".wmv", ".asf", ".ogv", ".ogg",
    ".mxf", ".nut", ".dv", ".dif", ".rm", ".rmvb", ".gif", ".ivf", ".obu", ".h264", ".264", ".avc", ".h265", ".265",
    ".hevc", ".h266", ".266", ".vvc", ".vc1", ".y4m",
}  # fmt: skip


def is_image(path: str | os.PathLike[str]) -> bool:
    """Whether a file is a still image, by its suffix: so the question is known before the file is opened.

    >>> is_image("photos/a.JPG"), is_image("a.gif"), is_image("a.mp4")
    (True, False, False)
    """
    return os.path.splitext(os.fspath(path))[1].lower() in IMAGE_SUFFIXES
