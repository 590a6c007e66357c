"""Pictures inside a page: data addresses, which need no other file."""

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np

from vqathinker_verl.frames.processes import decode
from vqathinker_verl.frames.spec import FrameSpec

THUMBNAIL_SIDE = 160


def data_address(media_type: str, content: bytes) -> str:
    """Return content as a data: address."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def jpeg_address(picture: Any, quality: int = 80) -> str:
    """Return a Pillow image as a JPEG's data address."""
    file = io.BytesIO()
    picture.save(file, format="JPEG", quality=quality)
    return data_address("image/jpeg", file.getvalue())


def thumbnail(path: Path, *, timeout_seconds: float) -> str:
    """Return the middle frame of a video, neither side longer than 160 pixels, as a JPEG's data address.

    Raises:
        VideoError: The video cannot be decoded.
    """
    from PIL import Image

    spec = FrameSpec(1, max_pixels=2 * THUMBNAIL_SIDE**2, factor=2)
    frame = decode(path, spec, timeout_seconds=timeout_seconds).frames[0]
    picture = Image.fromarray(np.ascontiguousarray(frame.transpose(1, 2, 0)))
    picture.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    return jpeg_address(picture, quality=70)
