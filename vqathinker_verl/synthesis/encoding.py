"""Encoding and decoding of clips through PyAV (FFmpeg), and the loss of packets on the way."""

import io
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.uint8]

CLEAN_CRF = 10  # no visible loss
# One thread, and without x264's AVX-512 code, whose result depends on what was in memory (PyAV 18.1.0): the same frames
# must give the same bytes.
ENCODERS: dict[str, tuple[str, dict[str, str]]] = {
    "h264": ("libx264", {"preset": "veryfast", "x264-params": "asm=sse2"}),
    "hevc": ("libx265", {"preset": "veryfast", "x265-params": "log-level=error:pools=none:frame-threads=1"}),
    "av1": ("libsvtav1", {"preset": "10", "svtav1-params": "lp=1"}),
}
SLICES = 8  # per frame of a stream that loses packets: one slice is one packet


def missing_encoders() -> list[str]:
    """Codecs of `ENCODERS` that this build of PyAV cannot encode."""
    import av

    return [name for name, (encoder, _) in ENCODERS.items() if encoder not in av.codecs_available]


def encode(frames: Frames, fps: Fraction, *, codec: str = "h264", crf: int = CLEAN_CRF) -> bytes:
    """Return an MP4 in 4:2:0; the same arguments give the same bytes.

    Args:
        frames: (T, H, W, 3) RGB, H and W even.
        fps: Frames per second.
        codec: A key of `ENCODERS`.
        crf: The encoder's constant rate factor: higher is worse.
    """
    import av

    encoder, options = ENCODERS[codec]
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream(encoder, rate=fps)
        _set_up(stream.codec_context, frames, {"crf": str(crf), **options})
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return buffer.getvalue()


def _set_up(context: Any, frames: Frames, options: dict[str, str]) -> None:
    context.height, context.width = frames.shape[1:3]
    context.pix_fmt = "yuv420p"
    context.thread_count = 1
    context.options = options


def decode(video: bytes, indices: NDArray[np.int64]) -> Frames:
    """Return the frames of an encoded clip at `indices` as (T, H, W, 3) RGB, in the clip's order.

    Raises:
        ValueError: The clip has fewer frames.
    """
    import av

    wanted = set(indices.tolist())
    with av.open(io.BytesIO(video)) as container:
        pictures = [
            picture.to_ndarray(format="rgb24")
            for number, picture in enumerate(container.decode(video=0))
            if number in wanted
        ]
    if len(pictures) != len(wanted):
        raise ValueError(f"{len(pictures)} frames were found in an encoded clip, expected {len(wanted)}")
    return np.stack(pictures)


def lose_packets(frames: Frames, fps: Fraction, share: float, rng: np.random.Generator) -> Frames:
    """Return what a decoder shows of a stream of which a share of the packets is lost.

    Each frame is sent as `SLICES` packets. The first frame always arrives. Lost slices are concealed by the decoder,
    and the damage spreads through the frames that refer to them. The packets lost at a lower share are among those
    lost at a higher one, given the same generator state.

    Args:
        frames: (T, H, W, 3) RGB, H and W even.
        fps: Frames per second.
        share: Probability in [0, 1] that a packet is lost.
        rng: Draws which packets are lost.
    """
    import av

    encoder = av.CodecContext.create("libx264", "w")
    encoder.framerate, encoder.time_base = fps, 1 / fps
    params = f"asm=sse2:slices={SLICES}:bframes=0:keyint=infinite:scenecut=0:annexb=1:repeat-headers=1"
    _set_up(encoder, frames, {"crf": "18", "preset": "veryfast", "tune": "zerolatency", "x264-params": params})
    decoder = av.CodecContext.create("h264", "r")
    decoder.thread_count = 1
    shown = []
    for number, frame in enumerate(frames):
        for packet in encoder.encode(_picture(frame, number)):
            arrived = b"".join(
                unit
                for unit in _units(bytes(packet))
                # Headers (types 6 to 9) and key frames (5) always arrive; 1 is a slice of another frame.
                if unit[_header(unit)] & 31 != 1 or rng.random() >= share
            )
            pictures = decoder.decode(av.Packet(arrived)) if arrived else []
            shown += [picture.to_ndarray(format="rgb24") for picture in pictures]
        while len(shown) <= number:  # nothing of a frame arrived: the player keeps the last one
            shown.append(shown[-1] if shown else frame)
    return np.stack(shown[: len(frames)])


def _picture(frame: Frames, number: int) -> Any:
    import av

    picture = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format="yuv420p")
    picture.pts = number
    return picture


def _units(stream: bytes) -> Iterator[bytes]:
    """The NAL units of an Annex B stream, each with its start code."""
    starts = []
    at = stream.find(b"\0\0\1")
    while at >= 0:
        starts.append(at - 1 if at and stream[at - 1] == 0 else at)
        at = stream.find(b"\0\0\1", at + 3)
    for begin, end in zip(starts, [*starts[1:], len(stream)], strict=True):
        yield stream[begin:end]


def _header(unit: bytes) -> int:
    """Where a unit's header byte is, after its start code."""
    return unit.index(b"\0\0\1") + 3
