"""One distortion of known strength, and the stand-in MOS that follows from the strength alone."""

import io

import numpy as np
from numpy.typing import NDArray

from vqathinker_verl.demo.scenes import FPS, Frames

# distortion -> the word for what a viewer sees
DISTORTION_WORDS = {
    "pristine": "sharp",
    "compression": "blocky",
    "blur": "smeared",
    "noise": "grainy",
    "darkness": "dark",
    "drops": "flickering",
    "stutter": "jerky",
}
DISTORTIONS = tuple(DISTORTION_WORDS)
STRENGTHS = (0.2, 0.4, 0.6, 0.8, 1.0)  # of every distortion but "pristine", whose strength is 0
NUM_SEGMENTS = 6  # what drops and stutter act on: the segments that a sampler of six frames looks into

MOS_SCALE = (0.0, 100.0)
_PRISTINE_MOS, _STRONGEST_MOS = 95.0, 5.0
_CLEAN_CRF = 10  # of every clip but the compressed ones: no visible loss


def stand_in_mos(strength: float) -> float:
    """MOS of the demo, on 0 to 100: 95 - 90 x strength, whatever the distortion.

    No viewer gave these scores. They fall with the strength, as those of viewers would, and stand in for them.

    Raises:
        ValueError: `strength` outside [0, 1].
    """
    if not 0.0 <= strength <= 1.0:
        raise ValueError(f"strength must be in [0, 1], got {strength}")
    return _PRISTINE_MOS - (_PRISTINE_MOS - _STRONGEST_MOS) * strength


def degrade(frames: Frames, distortion: str, strength: float, rng: np.random.Generator) -> Frames:
    """Frames with one distortion, before encoding; "compression" is left to the encoder (see `crf`).

    Args:
        frames: (T, H, W, 3) uint8; T a multiple of `NUM_SEGMENTS` for "drops" and "stutter".
        distortion: A key of `DISTORTION_WORDS`.
        strength: In [0, 1]; 0 changes nothing.
        rng: Draws the noise, and which segments are lost or frozen.
    """
    import cv2

    if distortion not in DISTORTION_WORDS:
        raise ValueError(f"unknown distortion {distortion!r}: expected one of {', '.join(DISTORTIONS)}")
    if strength == 0.0 or distortion in ("pristine", "compression"):
        return frames
    if distortion == "blur":
        return np.stack([cv2.GaussianBlur(frame, (0, 0), 4.0 * strength) for frame in frames])
    if distortion == "noise":
        noise = np.empty(frames.shape, np.int16)
        cv2.setRNGSeed(int(rng.integers(2**31)))
        cv2.randn(noise.reshape(len(frames), -1), 0, 60.0 * strength)
        return np.clip(frames + noise, 0, 255).astype(np.uint8)
    if distortion == "darkness":
        return (frames * np.exp(-2.5 * strength)).astype(np.uint8)
    hit = _segments(round((NUM_SEGMENTS - 1) * strength), rng)
    if distortion == "drops":
        return _show_black(frames, hit)
    return frames[_frozen(len(frames), hit)]


def crf(distortion: str, strength: float) -> int:
    """The H.264 constant rate factor to encode with: 24 + 27 x strength if compressed, else visually lossless."""
    return round(24 + 27 * strength) if distortion == "compression" and strength > 0 else _CLEAN_CRF


def _segments(count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw `count` of the segments 1 to 5; odd ones first, since frames 2k and 2k + 1 enter one vision patch."""
    return np.concatenate([rng.permutation([1, 3, 5]), rng.permutation([2, 4])])[:count]


def _show_black(frames: Frames, hit: NDArray[np.int64]) -> Frames:
    """Frames whose lost segments are shown black."""
    shown = frames.copy()
    for segment in hit:
        shown[_span(len(frames), segment)] = 0
    return shown


def _frozen(num_frames: int, hit: NDArray[np.int64]) -> NDArray[np.int64]:
    """Which frame is shown at each time when the picture stands still from the segment before each hit one on."""
    shown = np.arange(num_frames)
    for segment in sorted(hit):
        start = _span(num_frames, segment - 1).start
        shown[start : _span(num_frames, segment).stop] = shown[start]
    return shown


def _span(num_frames: int, segment: int) -> slice:
    if num_frames % NUM_SEGMENTS:
        raise ValueError(f"drops and stutter need a multiple of {NUM_SEGMENTS} frames, got {num_frames}")
    length = num_frames // NUM_SEGMENTS
    return slice(int(segment) * length, (int(segment) + 1) * length)


def encode_h264(frames: Frames, crf: int) -> bytes:
    """An MP4 of H.264 in 4:2:0; the same frames and crf give the same bytes (one thread)."""
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        # Without x264's AVX-512 code: what it computes for mbtree depends on what was in memory (PyAV 18.1.0), so that
        # the same frames gave other bytes now and then. An encoder without SSE2 takes no notice.
        stream.options = {"crf": str(crf), "preset": "veryfast", "x264-params": "asm=sse2"}
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return buffer.getvalue()


def decode_h264(video: bytes) -> Frames:
    """All frames of an encoded clip: (T, H, W, 3) uint8 RGB."""
    import av

    with av.open(io.BytesIO(video)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
