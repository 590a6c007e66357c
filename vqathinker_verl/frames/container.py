"""Open a video file: decide which files are accepted, which stream is read, and the shape of its pictures."""

import os
import stat
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vqathinker_verl.frames.video import VideoError

# FFmpeg's names of the containers that hold their video themselves. Playlists, such as HLS and concat, are left out:
# they have FFmpeg open other files, which may lie anywhere. Still images are read by image.py.
FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,mxf,nut,dv,rm,gif,ivf,obu,av1,"
    "h264,hevc,vvc,m4v,vc1,yuv4mpegpipe"
)


def open_video(path: str) -> tuple[Any, Any]:
    """Open a file with PyAV.

    Returns:
        The container and the video stream that FFmpeg calls best; a cover picture is not a video.

    Raises:
        VideoError: The file is missing, not a regular file, empty, of raw pictures, or without a video stream.
        av.FFmpegError: The file is not a container that we accept, or it is damaged.
    """
    import av
    from av.stream import Disposition

    check_file(path)
    # Tags in other encodings than UTF-8 are no reason to refuse a video.
    container = av.open(path, options={"format_whitelist": FORMATS}, metadata_errors="replace")
    videos = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    if not videos:
        container.close()
        raise VideoError(f"{path}: no video stream in the file; expected a video; check the file")
    best = container.streams.best("video")
    return container, best if best in videos else videos[0]


def check_file(path: str) -> None:
    """Raise VideoError for a path that is no file with content, or one of raw pictures."""
    try:
        status = os.stat(path)
    except OSError as error:
        reason = error.strerror
        raise VideoError(f"{path}: cannot be opened ({reason}); expected a video file; check the path") from error
    if not stat.S_ISREG(status.st_mode):
        raise VideoError(f"{path}: not a regular file; expected a video file; check the path")
    if status.st_size == 0:
        raise VideoError(f"{path}: the file is empty; expected a video; fetch it again")
    if path.lower().endswith(".yuv"):
        raise VideoError(
            f"{path}: raw pictures, whose size and frame rate are not in the file; convert it, for example with "
            "`ffmpeg -f rawvideo -pix_fmt yuv420p -s 1920x1080 -r 30 -i in.yuv -c:v libx264 -qp 0 out.mp4`"
        )


def shown_size(frame: Any, stream: Any) -> tuple[int, int]:
    """(height, width) of a picture as a viewer sees it: non-square pixels widened, then rotated upright."""
    aspect = stream.sample_aspect_ratio
    width = max(1, round(frame.width * aspect)) if aspect and aspect > 0 else frame.width
    return (width, frame.height) if quarter_turns(frame) % 2 else (frame.height, width)


def quarter_turns(frame: Any) -> int:
    """Counter-clockwise quarter turns, for np.rot90, that bring a PyAV frame upright."""
    rotation: float = frame.rotation
    return round(rotation / 90) % 4


def shown_picture(frame: Any, target: tuple[int, int]) -> NDArray[np.uint8]:
    """A PyAV frame as RGB (C, *target), upright. The one resize to the target also makes its pixels square."""
    return resized(np.rot90(frame.to_ndarray(format="rgb24"), quarter_turns(frame)), target)


def resized(picture: NDArray[np.uint8], target: tuple[int, int]) -> NDArray[np.uint8]:
    """RGB (H, W, C) to RGB (C, *target). Pillow's bicubic filter widens as it shrinks, so nothing aliases."""
    if picture.shape[:2] != target:
        image = Image.fromarray(np.ascontiguousarray(picture))
        picture = np.asarray(image.resize((target[1], target[0]), Image.Resampling.BICUBIC))
    return picture.transpose(2, 0, 1)
