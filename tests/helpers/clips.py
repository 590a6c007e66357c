"""Clips that the tests of this room encode: moving gradients, so that no two frames are equal."""

import struct
from fractions import Fraction

import numpy as np
import pytest

av = pytest.importorskip("av")

NUM_FRAMES = 40
HEIGHT, WIDTH = 96, 128


def scene(num_frames=NUM_FRAMES, height=HEIGHT, width=WIDTH):
    """RGB frames (T, H, W, 3)."""
    y, x = np.mgrid[0:height, 0:width]
    for index in range(num_frames):
        red = 128 + 100 * np.sin((x + 3 * index) / 17)
        green = 128 + 100 * np.cos((y - 2 * index) / 13)
        blue = np.full((height, width), 20 + 5 * index % 200)
        yield np.clip(np.stack([red, green, blue], axis=-1), 0, 255).astype(np.uint8)


def encode(
    path, codec="libx264", pix_fmt="yuv420p", times_ms=None, options=None, container_options=None, rate=25, **size
):
    """Encode the scene; `times_ms(index)` gives each frame its time."""
    frames = list(scene(**size))
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pix_fmt
        if times_ms is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for index, array in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(array, format="rgb24")
            if times_ms is not None:
                frame.pts, frame.time_base = times_ms(index), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def set_rotation(path, degrees):
    """Write the rotation into an MP4's track header, as a phone does."""
    data = bytearray(path.read_bytes())
    header = data.find(b"tkhd") + 4
    matrix_at = header + 4 + (32 if data[header] else 20) + 16
    one, last = 1 << 16, 1 << 30
    rotation = {90: (0, one, -one, 0), 180: (-one, 0, 0, -one), 270: (0, -one, one, 0)}[degrees]
    a, b, c, d = rotation
    data[matrix_at : matrix_at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, last)
    path.write_bytes(data)
    return path


X265_QUIET = {"x265-params": "log-level=error:pools=1"}
# name -> how to encode it
CLIPS = {
    "h264_b_frames.mp4": {"options": {"bf": "3", "g": "12", "crf": "12"}},
    "h264_b_frames.mkv": {"options": {"bf": "3", "g": "12", "crf": "12"}},
    "h264_30.mkv": {"options": {"bf": "3", "g": "12"}, "rate": 30},
    "h264_intra.mp4": {"options": {"g": "1"}},
    "h264_one_keyframe.mp4": {"options": {"g": "1000", "keyint_min": "1000", "sc_threshold": "0"}},
    "hevc.mp4": {"codec": "libx265", "options": X265_QUIET},
    "vp9.webm": {"codec": "libvpx-vp9"},
    "vp9_odd.webm": {"codec": "libvpx-vp9", "height": 95, "width": 127},
    "av1.mp4": {"codec": "libsvtav1", "options": {"preset": "10"}},
    "variable_rate.mp4": {"times_ms": lambda index: 40 * index + 11 * (index % 3)},
    "variable_rate_gap.mp4": {"times_ms": lambda index: 40 * index + 900 * (index > 20)},
    "h264_422.mp4": {"pix_fmt": "yuv422p"},
    "h264_444.mp4": {"pix_fmt": "yuv444p"},
    "odd_width.webm": {"codec": "libvpx-vp9", "width": 127},
    "odd_444.mp4": {"height": 95, "width": 127, "pix_fmt": "yuv444p"},
    "h264_10bit.mp4": {"pix_fmt": "yuv420p10le"},
    "hevc_10bit.mp4": {"codec": "libx265", "pix_fmt": "yuv420p10le", "options": X265_QUIET},
    "one_frame.mp4": {"num_frames": 1},
    "three_frames.mp4": {"num_frames": 3},
    "rotated_90.mp4": {"rotation": 90},
    "rotated_180.mp4": {"rotation": 180},
    "rotated_270.mp4": {"rotation": 270},
}


@pytest.fixture(scope="session")
def clip(tmp_path_factory):
    """clip(name) -> path of one of CLIPS, encoded on first use."""
    folder = tmp_path_factory.mktemp("clips")

    def make(name):
        path = folder / name
        if not path.exists():
            how = dict(CLIPS[name])
            codec = how.get("codec", "libx264")
            if codec not in av.codecs_available:
                pytest.skip(f"this build of FFmpeg cannot encode with {codec}")
            rotation = how.pop("rotation", None)
            encode(path, **how)
            if rotation is not None:
                set_rotation(path, rotation)
        return path

    return make
