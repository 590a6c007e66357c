"""Still images, read with Pillow: a video of one frame, upright and in RGB.

Not with FFmpeg, as videos are: it takes 16 bits, transparency and EXIF in other ways than viewers of images do.
"""

import logging
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from vqathinker_verl.frames.container import check_file, resized
from vqathinker_verl.frames.reader import finished, target_size
from vqathinker_verl.frames.spec import FrameSpec, VideoInfo
from vqathinker_verl.frames.video import DecodedVideo, VideoError

logger = logging.getLogger(__name__)

# Pillow's names. Others are not opened: some hand the file to other programs.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "DIB", "TIFF")
IMAGE_FPS = 1.0  # an image has no rate, and processors of videos need one
WHITE = (255, 255, 255, 255)


def read_image_info(path: str) -> VideoInfo:
    """Size of an image, as `read_image_frames` shows it: one frame at IMAGE_FPS.

    Raises:
        VideoError: As `read_image`.
    """
    height, width, _ = read_image(path).shape
    return VideoInfo(path, 1, IMAGE_FPS, height, width)


def read_image_frames(path: str, spec: FrameSpec) -> DecodedVideo:
    """An image as `spec.image_frames` equal frames.

    Raises:
        VideoError: As `read_image`; or the image is too flat for the spec.
    """
    picture = read_image(path)
    height, width, _ = picture.shape
    frame = resized(picture, target_size(path, spec, (height, width)))
    frames = np.repeat(frame[None], spec.image_frames, axis=0)
    return finished(frames, np.zeros(spec.image_frames, np.int64), IMAGE_FPS, 1, "pillow")


def read_image(path: str) -> NDArray[np.uint8]:
    """RGB (H, W, 3) of an image, turned upright as its EXIF orientation says.

    Transparency is shown on white, as viewers and browsers do; 16 bits of grey are rounded to 8, and Pillow takes the
    upper 8 bits of 16-bit colours. Colour profiles are not applied. Of a TIFF with several pages the first is read, and
    of a JPEG with several pictures (MPO, such as a phone's) the main one.

    Raises:
        VideoError: The file is missing or empty, no such image, an animation, or has values whose range is not known.
        OSError, SyntaxError: It is damaged.
    """
    check_file(path)
    # Opened here: Pillow 13 maps a file that it opens itself into memory, and then cuts the rows of a grey TIFF that
    # lies on its side at the wrong length.
    with open(path, "rb") as file, _opened(path, file) as image:
        kind, count = image.format, getattr(image, "n_frames", 1)
        if count > 1 and kind in ("PNG", "WEBP"):
            raise VideoError(
                f"{path}: an animation of {count} pictures; expected a still image; convert it to a video, such as MP4"
            )
        if count > 1 and kind == "TIFF":
            logger.warning("%s: holds %d pages; the first is read", path, count)
        image.load()
        upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I;16") or (upright.mode == "I" and kind == "PNG"):
        grey = (np.asarray(upright).astype(np.int64) + 128) // 257
        return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)
    if upright.mode in ("I", "F"):
        raise VideoError(
            f"{path}: 32 bits per pixel, whose range is not known; expected 8 or 16 bits; convert the image"
        )
    if upright.has_transparency_data:
        opaque = Image.new("RGBA", upright.size, WHITE)
        opaque.alpha_composite(upright.convert("RGBA"))
        upright = opaque
    return np.asarray(upright.convert("RGB"))


def _opened(path: str, file: BinaryIO) -> Image.Image:
    try:
        return Image.open(file, formats=FORMATS)
    except UnidentifiedImageError:
        kinds = ", ".join(sorted({*FORMATS} - {"DIB"}))
        raise VideoError(
            f"{path}: cannot be decoded (no image of the kinds {kinds}); fetch it again or leave it out"
        ) from None
