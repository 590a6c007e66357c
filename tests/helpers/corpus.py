"""Videos of many kinds, made here. Each picture carries its number, which survives compression.

A number is drawn as eight blocks, black or white, so a decoded picture says which one it is whatever its codec.
"""

from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np

NUM_FRAMES = 150
HEIGHT, WIDTH = 96, 128
RATE = 25


def picture(number, height=HEIGHT, width=WIDTH):
    """RGB (H, W, 3): the number's bits in two rows of four blocks; a moving bar gives encoders motion to find."""
    bits = [(number >> bit) & 1 for bit in range(8)]
    blocks = np.array(bits, np.uint8).reshape(2, 4) * 200 + 20
    array = np.kron(blocks, np.ones((height // 2, width // 4), np.uint8))
    at = (3 * number) % width
    array[-8:, at : at + 12] = 128
    return np.repeat(array[..., None], 3, axis=2)


def number_of(array):
    """The number in an RGB picture (H, W, 3) of any size."""
    height, width = array.shape[:2]
    bits = 0
    for bit in range(8):
        row, column = divmod(bit, 4)
        top, left = int((row + 0.3) * height / 2), int((column + 0.3) * width / 4)
        block = array[top : top + max(1, height // 8), left : left + max(1, width // 10)]
        bits |= int(block.mean() > 122) << bit
    return bits


def add_stream(container, codec, options, pix_fmt="yuv420p", height=HEIGHT, width=WIDTH, rate=RATE, **attributes):
    stream = container.add_stream(codec, rate=rate, options=options or {})
    stream.height, stream.width, stream.pix_fmt = height, width, pix_fmt
    for name, value in attributes.items():
        setattr(stream.codec_context, name, value)
    return stream


def encode(
    path,
    codec="libx264",
    options=None,
    *,
    numbers=range(NUM_FRAMES),
    times_ms=None,
    rotation=None,
    container_options=None,
    format=None,
    **stream_fields,
):
    """Encode the pictures of `numbers`; `times_ms(place)` gives each its time in milliseconds."""
    with av.open(str(path), "w", format=format, options=container_options or {}) as container:
        stream = add_stream(container, codec, options, **stream_fields)
        if rotation is not None:
            stream.set_display_rotation(rotation)
        if times_ms:
            stream.codec_context.time_base = Fraction(1, 1000)
        for place, number in enumerate(numbers):
            frame = as_frame(number, stream.height, stream.width)
            if times_ms:
                frame.pts, frame.time_base = times_ms(place), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def as_frame(number, height=HEIGHT, width=WIDTH):
    return av.VideoFrame.from_ndarray(picture(number, height, width), format="rgb24")


def copied(make, suffix, *, start=None, end=None, shift=0.0, options=None):
    """A stream copy of what `make` writes, from the key frame before `start` seconds up to `end`.

    `start` becomes time 0 (or `shift`). In MP4 an edit list then hides what is shown before time 0.
    """

    def write(path):
        source = path.with_name(f"source_of_{path.stem}{suffix}")
        make(source)
        with av.open(str(source)) as read, av.open(str(path), "w", options=options or {}) as written:
            stream = read.streams.best("video")
            target = written.add_stream_from_template(stream)
            if start is not None:
                read.seek(round(start / stream.time_base), stream=stream)
            offset = round(((start or 0) - shift) / stream.time_base)
            for packet in read.demux(stream):
                if not packet.size or (end is not None and packet.dts * stream.time_base >= end):
                    continue
                packet.pts = None if packet.pts is None else packet.pts - offset
                packet.dts = None if packet.dts is None else packet.dts - offset
                packet.stream = target
                written.mux(packet)

    return write


def with_shorter_edit(make, milliseconds):
    """An MP4 whose edit list ends before its pictures do, as editors on phones trim."""

    def write(path):
        make(path)
        data = bytearray(path.read_bytes())
        at = data.index(b"elst") + 12
        data[at : at + 4] = milliseconds.to_bytes(4, "big")
        path.write_bytes(data)

    return write


def two_streams(first, second, **container_options):
    """Two video streams side by side; each is (height, width, options of its encoder)."""

    def write(path):
        with av.open(str(path), "w", options=container_options) as container:
            streams = [
                add_stream(container, "libx264", options, height=height, width=width)
                for height, width, options in (first, second)
            ]
            for number in range(NUM_FRAMES):
                for stream in streams:
                    container.mux(stream.encode(as_frame(number, stream.height, stream.width)))
            for stream in streams:
                container.mux(stream.encode())

    return write


def with_sound(**fields):
    """A video with a sound track that lasts twice as long."""

    def write(path):
        with av.open(str(path), "w") as container:
            stream = add_stream(container, "libx264", fields)
            sound = container.add_stream("aac", rate=48000)
            for number in range(NUM_FRAMES):
                container.mux(stream.encode(as_frame(number)))
            container.mux(stream.encode())
            for start in range(0, 2 * 48000 * NUM_FRAMES // RATE, 1024):
                frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
                frame.rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
                container.mux(sound.encode(frame))
            container.mux(sound.encode())

    return write


def changing_size(codec, options, pix_fmt="yuv420p"):
    """A stream whose pictures become larger in the middle, as recordings of calls do."""

    def write(path):
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=RATE, options=options)
            stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, pix_fmt
            stream.codec_context.time_base = Fraction(1, RATE)
            half = NUM_FRAMES // 2
            for number in range(half):
                frame = as_frame(number)
                frame.pts, frame.time_base = number, Fraction(1, RATE)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
            larger = av.CodecContext.create(codec, "w")
            larger.height, larger.width, larger.pix_fmt = 2 * HEIGHT, 2 * WIDTH, pix_fmt
            larger.time_base, larger.framerate, larger.options = Fraction(1, RATE), Fraction(RATE), options
            for number in [*range(half, NUM_FRAMES), None]:
                frame = None
                if number is not None:
                    frame = as_frame(number, 2 * HEIGHT, 2 * WIDTH)
                    frame.pts, frame.time_base = number, Fraction(1, RATE)
                for packet in larger.encode(frame):
                    packet.stream = stream
                    container.mux(packet)

    return write


def joined(*makes):
    """Files one after another in one file, as MPEG-TS and MPEG-PS allow."""

    def write(path):
        data = b""
        for number, make in enumerate(makes):
            part = path.with_name(f"{number}_of_{path.name}")
            make(part)
            data += part.read_bytes()
        path.write_bytes(data)

    return write


def of(codec="libx264", **how):
    return lambda path: encode(path, codec, **how)


def x264(**options):
    defaults = {"preset": "veryfast", "bf": "3", "g": "25", "sc_threshold": "0"}
    return {**defaults, **{name: str(value) for name, value in options.items()}}


def x265(params=""):
    return {"preset": "medium", "x265-params": "log-level=error:pools=1:bframes=3" + (f":{params}" if params else "")}


CLOSED, OPEN = x264(), x264(**{"x264-params": "open-gop=1:bframes=3:keyint=25:scenecut=0"})
X265_CLOSED, X265_OPEN = x265("no-open-gop=1:keyint=25:scenecut=0"), x265("open-gop=1:keyint=25:scenecut=0")
MPEG = {"g": "12", "bf": "2", "qscale": "3"}
AV1 = {"preset": "8", "crf": "10", "g": "25", "svtav1-params": "lp=1:enable-tf=0"}

REALTIME = {"deadline": "realtime", "cpu-used": "8"}

# Name -> what writes the file.
CORPUS: dict[str, Callable] = {
    "h264_default.mp4": of(options={"preset": "veryfast"}),
    "h264_closed.mp4": of(options=CLOSED),
    "h264_closed.mov": of(options=CLOSED),
    "h264_closed.mkv": of(options=CLOSED),
    "h264_closed.flv": of(options=CLOSED),
    "h264_closed.ts": of(options=CLOSED),
    "h264_closed.avi": of(options=CLOSED),
    "h264_closed.h264": of(options=CLOSED),
    "h264_closed_fragmented.mp4": of(options=CLOSED, container_options={"movflags": "frag_keyframe+empty_moov"}),
    "h264_open.mp4": of(options=OPEN),
    "h264_open.mov": of(options=OPEN),
    "h264_open.mkv": of(options=OPEN),
    "h264_open.ts": of(options=OPEN),
    "h264_no_b.avi": of(options=x264(bf=0)),
    "h264_no_b.mp4": of(options=x264(bf=0)),
    "h264_intra.mp4": of(options=x264(g=1)),
    "h264_intra_refresh.mp4": of(options=x264(**{"x264-params": "intra-refresh=1:keyint=25:bframes=0"})),
    "h264_intra_refresh.mkv": of(options=x264(**{"x264-params": "intra-refresh=1:keyint=25:bframes=0"})),
    "h264_intra_refresh.ts": of(options=x264(**{"x264-params": "intra-refresh=1:keyint=25:bframes=0"})),
    "h264_interlaced.mp4": of(options=x264(**{"x264-params": "tff=1:keyint=25"})),
    "h264_slices.mp4": of(options=x264(**{"x264-params": "slices=4:keyint=25"})),
    "h264_10bit.mp4": of(options=CLOSED, pix_fmt="yuv420p10le"),
    "hevc_default.mkv": of("libx265", options=x265()),
    "hevc_open.mp4": of("libx265", options=X265_OPEN),
    "hevc_open.mov": of("libx265", options=X265_OPEN),
    "hevc_open.mkv": of("libx265", options=X265_OPEN),
    "hevc_open.ts": of("libx265", options=X265_OPEN),
    "hevc_closed.mp4": of("libx265", options=X265_CLOSED),
    "hevc_radl.mp4": of("libx265", options=x265("no-open-gop=1:keyint=25:radl=2:scenecut=0")),
    "hevc_repeated_headers.mkv": of("libx265", options=x265("repeat-headers=1:keyint=25")),
    "mpeg1.mpg": of("mpeg1video", options=MPEG),
    "mpeg1.mkv": of("mpeg1video", options=MPEG),
    "mpeg2.mpg": of("mpeg2video", options=MPEG, format="vob"),
    "mpeg2.ts": of("mpeg2video", options=MPEG),
    "mpeg2.mp4": of("mpeg2video", options=MPEG),
    "mpeg2_closed.mkv": of("mpeg2video", options={**MPEG, "flags": "+cgop", "sc_threshold": "1000000000"}),
    "mpeg4_b.avi": of("mpeg4", options=MPEG),
    "mpeg4_b.mp4": of("mpeg4", options=MPEG),
    "mpeg4_b.mkv": of("mpeg4", options=MPEG),
    "msmpeg4.avi": of("msmpeg4", options={"qscale": "3"}),
    "wmv1.wmv": of("wmv1", options={"qscale": "3"}),
    "wmv2.wmv": of("wmv2", options={"qscale": "3"}),
    "flv1.flv": of("flv", options={"qscale": "3"}),
    "h263.3gp": of("h263", options={"qscale": "3"}),
    "vp8.webm": of(
        "libvpx",
        options={"deadline": "realtime", "cpu-used": "16", "auto-alt-ref": "1", "lag-in-frames": "8", "g": "25"},
    ),
    "vp9.webm": of("libvpx-vp9", options={**REALTIME, "g": "25"}),
    "vp9_alt_ref.webm": of(
        "libvpx-vp9",
        options={"deadline": "good", "cpu-used": "8", "auto-alt-ref": "1", "lag-in-frames": "16", "g": "30"},
    ),
    "vp9_alt_ref.mp4": of(
        "libvpx-vp9",
        options={"deadline": "good", "cpu-used": "8", "auto-alt-ref": "1", "lag-in-frames": "16", "g": "30"},
    ),
    "av1.mp4": of("libsvtav1", options=AV1),
    "av1.webm": of("libsvtav1", options=AV1),
    "av1_open.mkv": of("libsvtav1", options={**AV1, "svtav1-params": "lp=1:enable-tf=0:irefresh-type=1"}),
    "mjpeg.avi": of("mjpeg", pix_fmt="yuvj420p"),
    "mjpeg.mov": of("mjpeg", pix_fmt="yuvj420p"),
    "prores.mov": of("prores_ks", pix_fmt="yuv422p10le"),
    "ffv1.mkv": of("ffv1"),
    "raw.y4m": of("wrapped_avframe"),
    "animated.gif": of("gif", pix_fmt="rgb8"),
    # Edit lists and time stamps.
    "h264_start_cut.mp4": copied(of(options=CLOSED), ".mp4", start=1.52),
    "h264_open_start_cut.mp4": copied(of(options=OPEN), ".mp4", start=2.48),
    "h264_start_cut.mov": copied(of(options=x264(g=250)), ".mp4", start=1.0),
    "hevc_start_cut.mp4": copied(of("libx265", options=X265_CLOSED), ".mp4", start=1.52),
    "hevc_open_start_cut.mp4": copied(of("libx265", options=X265_OPEN), ".mp4", start=2.48),
    "mpeg4_start_cut.mp4": copied(of("mpeg4", options=MPEG), ".mp4", start=1.52),
    "vp9_start_cut.mp4": copied(of("libvpx-vp9", options={"cpu-used": "8", "g": "30"}), ".mp4", start=1.52),
    "h264_end_cut.mp4": copied(of(options=CLOSED), ".mp4", end=3.1),
    "h264_both_cut.mp4": copied(of(options=CLOSED), ".mp4", start=1.52, end=4.3),
    "h264_end_hidden.mp4": with_shorter_edit(of(options=CLOSED), 3300),
    "hevc_end_hidden.mp4": with_shorter_edit(of("libx265", options=X265_OPEN), 3300),
    "h264_both_hidden.mp4": with_shorter_edit(copied(of(options=CLOSED), ".mp4", start=1.52), 2000),
    "h264_start_cut.mkv": copied(of(options=CLOSED), ".mp4", start=1.52),
    "h264_negative_start.mkv": copied(
        of(options=CLOSED), ".mp4", start=1.52, options={"avoid_negative_ts": "disabled"}
    ),
    "hevc_open_cut_at_cra.mkv": copied(of("libx265", options=X265_OPEN), ".mp4", start=2.0),
    "hevc_open_cut_at_cra.ts": copied(of("libx265", options=X265_OPEN), ".mp4", start=2.0),
    "h264_open_cut.mkv": copied(of(options=OPEN), ".mp4", start=2.0),
    "h264_late_start.mp4": copied(of(options=CLOSED), ".mp4", shift=2.0),
    "h264_late_start.ts": copied(of(options=CLOSED), ".mp4", shift=2.0),
    "h264_vfr.mp4": of(options=CLOSED, times_ms=lambda place: 40 * place + 13 * (place % 3)),
    "h264_vfr.mkv": of(options=CLOSED, times_ms=lambda place: 40 * place + 13 * (place % 3)),
    "h264_gap.mp4": of(options=CLOSED, times_ms=lambda place: 40 * place + 1500 * (place > 70)),
    "vp9_vfr.webm": of(
        "libvpx-vp9",
        options={**REALTIME},
        times_ms=lambda place: 40 * place + 13 * (place % 3),
    ),
    # Streams, shapes and sizes.
    "two_streams.mp4": two_streams((48, 64, CLOSED), (HEIGHT, WIDTH, CLOSED)),
    "two_streams.mkv": two_streams((HEIGHT, WIDTH, OPEN), (48, 64, CLOSED)),
    "long_sound.mp4": with_sound(**CLOSED),
    "long_sound.mkv": with_sound(**CLOSED),
    "wide_pixels.mp4": of(options=CLOSED, sample_aspect_ratio=Fraction(64, 45)),
    "tall_pixels.mkv": of(options=CLOSED, sample_aspect_ratio=Fraction(1, 2)),
    "rotated_90.mp4": of(options=CLOSED, rotation=90),
    "rotated_180.mov": of(options=OPEN, rotation=180),
    "rotated_wide_270.mp4": of(options=CLOSED, rotation=270, sample_aspect_ratio=Fraction(4, 3)),
    "changing_size.ts": changing_size("libx264", CLOSED),
    "changing_size_mpeg2.ts": changing_size("mpeg2video", MPEG),
    "changing_size.webm": changing_size("libvpx-vp9", {**REALTIME, "g": "25"}),
    "changing_size.mkv": changing_size("libx264", CLOSED),
    "joined.ts": joined(of(options=CLOSED, numbers=range(75)), of(options=CLOSED, numbers=range(75, 150))),
    "odd.webm": of("libvpx-vp9", options={**REALTIME}, height=98, width=132),
    "short.mp4": of(options=CLOSED, numbers=range(3)),
    "short.mkv": of(options=OPEN, numbers=range(5)),
    "one.mp4": of(options=CLOSED, numbers=range(1)),
}


def sequential(path):
    """The truth: every picture that decoding the best stream from its start gives."""
    with av.open(str(path)) as container:
        return list(container.decode(container.streams.best("video")))


def ascending(numbers):
    return all(a < b for a, b in pairwise(numbers))
