"""Suffixes of the files that the decoder opens (container.FORMATS)."""

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
VIDEO_SUFFIXES = IMAGE_SUFFIXES | {
    ".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2", ".mj2", ".f4v", ".mkv", ".mk3d", ".webm", ".avi", ".divx",
    ".ts", ".m2ts", ".mts", ".mpg", ".mpeg", ".mpe", ".m1v", ".m2v", ".vob", ".flv", ".wmv", ".asf", ".ogv", ".ogg",
    ".mxf", ".nut", ".dv", ".dif", ".rm", ".rmvb", ".gif", ".ivf", ".obu", ".h264", ".264", ".avc", ".h265", ".265",
    ".hevc", ".h266", ".266", ".vvc", ".vc1", ".y4m",
}  # fmt: skip
