"""One distortion of known strength, and the stand-in MOS that follows from the strength alone."""

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vqathinker_verl.demo.scenes import Frames

# distortion -> the word for what a viewer sees
DISTORTION_WORDS = {
    "pristine": "sharp",
    "compression": "blocky",
    "blur": "smeared",
    "noise": "grainy",
    "darkness": "dark",
    "drops": "flickering",
    "judder": "juddering",
    "reversed": "backwards",
    "shuffled": "scrambled",
}
DISTORTIONS = tuple(DISTORTION_WORDS)
STRENGTHS = (0.2, 0.4, 0.6, 0.8, 1.0)  # of every distortion but "pristine", whose strength is 0
PLAYBACK = ("judder", "reversed", "shuffled")  # change when a frame is shown, and no frame
NUM_SEGMENTS = 6  # what drops and playback act on: the segments that a sampler of six frames looks into

MOS_SCALE = (0.0, 100.0)
_PRISTINE_MOS, _STRONGEST_MOS = 95.0, 5.0
_CLEAN_CRF = 10  # of every clip but the compressed ones: no visible loss


def stand_in_mos(strength: float) -> float:
    """MOS of the demo, on 0 to 100: 95 - 90 x strength, whatever the distortion.

    No viewer gave these scores. They fall with the strength, as those of viewers would, and replace them in the demo.

    Raises:
        ValueError: `strength` outside [0, 1].
    """
    if not 0.0 <= strength <= 1.0:
        raise ValueError(f"strength must be in [0, 1], got {strength}")
    return _PRISTINE_MOS - (_PRISTINE_MOS - _STRONGEST_MOS) * strength


def degrade(frames: Frames, distortion: str, strength: float, rng: np.random.Generator) -> Frames:
    """Frames with one distortion, before encoding; "compression" is left to the encoder (see `crf`).

    Args:
        frames: (T, H, W, 3) uint8; T a multiple of `NUM_SEGMENTS` for "drops" and those of `PLAYBACK`.
        distortion: A key of `DISTORTION_WORDS`.
        strength: In [0, 1]; 0 changes nothing.
        rng: Draws the noise, and which segments are lost or change places.
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
        cv2.randn(noise.reshape(len(frames), -1), np.zeros(1), np.full(1, 60.0 * strength))
        return np.clip(frames + noise, 0, 255).astype(np.uint8)
    if distortion == "darkness":
        return (frames * np.exp(-2.5 * strength)).astype(np.uint8)
    if distortion == "drops":
        return _show_black(frames, _segments(round((NUM_SEGMENTS - 1) * strength), rng))
    return frames[playback(len(frames), distortion, strength, rng)]


def playback(num_frames: int, distortion: str, strength: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """Which frame is shown at each time under a distortion of `PLAYBACK`.

    - judder: what a segment shows is too late or too early, by `strength` of a segment's length.
    - reversed: the clip turns back, so that its last part plays backwards: 2 segments at the least strength, all 6
      at 1.
    - shuffled: segments change places, away from their neighbours: 2 at the least strength, all 6 at 1.

    Args:
        num_frames: A multiple of `NUM_SEGMENTS`.
        distortion: One of `PLAYBACK`.
        strength: In (0, 1].
        rng: Draws which segments change places.

    Returns:
        (num_frames,) indices of frames.
    """
    length = _segment_length(num_frames)
    times = np.arange(num_frames)
    segment = times // length
    if distortion == "judder":
        ahead = np.array([1, -1, -1, 1, 1, -1])  # frames 2k and 2k + 1 enter one vision patch
        return times + ahead[segment] * round(strength * length)
    hit = 1 + round((NUM_SEGMENTS - 1) * strength)
    if distortion == "reversed":
        turn = (NUM_SEGMENTS - hit) * length
        start = max(0, num_frames - 2 * turn)
        return start + np.where(times < turn, times, 2 * turn - 1 - times)
    return _shuffled_order(hit, rng)[segment] * length + times % length


def _shuffled_order(hit: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """The order of the segments after `hit` of them have changed places, none of them next to a former neighbour."""
    while True:
        order = np.arange(NUM_SEGMENTS)
        places = rng.choice(NUM_SEGMENTS, hit, replace=False)
        order[places] = rng.permutation(order[places])
        moved = order != np.arange(NUM_SEGMENTS)
        adjacent = np.abs(np.diff(order)) == 1
        if moved.sum() == hit and not (adjacent & (moved[1:] | moved[:-1])).any():
            return order


def crf(distortion: str, strength: float) -> int:
    """The H.264 constant rate factor to encode with: 24 + 27 x strength if compressed, else visually lossless."""
    return round(24 + 27 * strength) if distortion == "compression" and strength > 0 else _CLEAN_CRF


def _segments(count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw `count` of the segments 1 to 5; odd ones first, since frames 2k and 2k + 1 enter one vision patch."""
    return np.concatenate([rng.permutation([1, 3, 5]), rng.permutation([2, 4])])[:count]


def _show_black(frames: Frames, hit: NDArray[np.int64]) -> Frames:
    """Frames whose lost segments are shown black."""
    segments = np.arange(len(frames)) // _segment_length(len(frames))
    return np.where(np.isin(segments, hit)[:, None, None, None], np.uint8(0), frames)


def _segment_length(num_frames: int) -> int:
    if num_frames % NUM_SEGMENTS:
        raise ValueError(f"drops and playback need a multiple of {NUM_SEGMENTS} frames, got {num_frames}")
    return num_frames // NUM_SEGMENTS


def encode_h264(frames: Frames, crf: int, fps: int = 24) -> bytes:
    """An MP4 of H.264 in 4:2:0; the same arguments give the same bytes (one thread)."""
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps)
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


def decode_h264(video: bytes, indices: Sequence[int] | NDArray[np.int64] | None = None) -> Frames:
    """Frames of an encoded clip, in the clip's order: (T, H, W, 3) uint8 RGB; all of them, or those of `indices`."""
    import av

    # Converting a picture to RGB takes longer than decoding it.
    wanted = None if indices is None else set(map(int, indices))
    with av.open(io.BytesIO(video)) as container:
        pictures = enumerate(container.decode(video=0))
        return np.stack([p.to_ndarray(format="rgb24") for number, p in pictures if wanted is None or number in wanted])
