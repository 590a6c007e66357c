"""The distortions of a chain: what a clip looks like at a strength from 0 (unchanged) to 1 (worst)."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vqathinker_verl.synthesis.encoding import CLEAN_CRF, Frames, encode, lose_packets

# Constant rate factors of a compressed clip from strength just above 0 to 1.
_CRF = {"h264": (22, 51), "hevc": (24, 51), "av1": (28, 63)}


def distorted_clip(frames: Frames, fps: Fraction, distortion: str, strength: float, seed: int) -> bytes:
    """Return the MP4 of a clip with one distortion; the same arguments give the same bytes.

    Every random choice is drawn from `seed` alone, so all strengths of a chain share it: the noise of a weak strength
    is the noise of a strong one, scaled.

    Args:
        frames: (T, H, W, 3) RGB, H and W even.
        fps: Frames per second.
        distortion: One of `DISTORTIONS`.
        strength: In [0, 1]; 0 gives the same bytes for every distortion.
        seed: Of the chain.

    Raises:
        ValueError: An unknown distortion or a strength outside [0, 1].
    """
    if distortion not in DISTORTIONS:
        raise ValueError(f"unknown distortion {distortion!r}: expected one of {', '.join(DISTORTIONS)}")
    if not 0.0 <= strength <= 1.0:
        raise ValueError(f"strength: expected a number in [0, 1], got {strength}")
    if strength == 0.0:
        return encode(frames, fps)
    if distortion in _CRF:
        low, high = _CRF[distortion]
        return encode(frames, fps, codec=distortion, crf=round(low + (high - low) * strength))
    rng = np.random.default_rng(seed)
    if distortion == "packet_loss":
        return encode(lose_packets(frames, fps, 0.25 * strength**2, rng), fps)
    return encode(_CHANGES[distortion](frames, fps, strength, rng), fps, crf=CLEAN_CRF)


def _downscale(frames: Frames, fps: Fraction, strength: float, rng: np.random.Generator) -> Frames:
    """Down by a factor of up to 8, and up again, both bicubic."""
    from PIL import Image

    height, width = frames.shape[1:3]
    small = (max(1, round(width / 8**strength)), max(1, round(height / 8**strength)))

    def there_and_back(frame: Frames) -> Frames:
        image = Image.fromarray(frame).resize(small, Image.Resampling.BICUBIC)
        return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))

    return np.stack([there_and_back(frame) for frame in frames])


def _blur(frames: Frames, fps: Fraction, strength: float, rng: np.random.Generator) -> Frames:
    """Gaussian, with a standard deviation of up to 1.2 % of the height."""
    from scipy.ndimage import gaussian_filter

    sigma = 0.012 * frames.shape[1] * strength
    return np.stack([gaussian_filter(frame, (sigma, sigma, 0)) for frame in frames])


def _noise(frames: Frames, fps: Fraction, strength: float, rng: np.random.Generator) -> Frames:
    """Gaussian and independent per pixel and channel, with a standard deviation of up to 50 of 255."""
    noisy = np.empty_like(frames)
    for number, frame in enumerate(frames):  # a frame at a time: a clip of float values would be four times its size
        grain = rng.standard_normal(frame.shape, dtype=np.float32)
        noisy[number] = np.clip(frame + 50.0 * strength * grain, 0, 255)
    return noisy


def _banding(frames: Frames, fps: Fraction, strength: float, rng: np.random.Generator) -> Frames:
    """Fewer levels per channel: from 64 down to 4."""
    step = 255.0 / (round(2 ** (6 - 4 * strength)) - 1)
    return _by_level(frames, lambda level: np.round(level / step) * step)


def _darkness(frames: Frames, fps: Fraction, strength: float, rng: np.random.Generator) -> Frames:
    """Brightness times exp(-2.5 x strength)."""
    return _by_level(frames, lambda level: level * np.exp(-2.5 * strength))


def _overexposure(frames: Frames, fps: Fraction, strength: float, rng: np.random.Generator) -> Frames:
    """Up to two stops brighter; what is then too bright is white."""
    return _by_level(frames, lambda level: level * 4.0**strength)


def _colour_cast(frames: Frames, fps: Fraction, strength: float, rng: np.random.Generator) -> Frames:
    """One channel, drawn, falls to a third and the next one to two thirds."""
    gain = np.roll([1 - 2 / 3 * strength, 1 - 1 / 3 * strength, 1.0], int(rng.integers(3)))
    levels = np.arange(256)
    return np.stack([(levels * g).astype(np.uint8)[frames[..., c]] for c, g in enumerate(gain)], axis=-1)


def _by_level(frames: Frames, change: Callable[[NDArray[Any]], NDArray[Any]]) -> Frames:
    """Apply a function of the level of a channel."""
    table: Frames = np.clip(np.round(change(np.arange(256.0))), 0, 255).astype(np.uint8)
    changed: Frames = table[frames]
    return changed


def _frame_drops(frames: Frames, fps: Fraction, strength: float, rng: np.random.Generator) -> Frames:
    """A lower frame rate: a frame is held while others are dropped, for up to a second."""
    held = max(2, round(float(fps) * strength))
    times = np.arange(len(frames))
    chosen: Frames = frames[times // held * held]
    return chosen


def _stutter(frames: Frames, fps: Fraction, strength: float, rng: np.random.Generator) -> Frames:
    """The picture freezes for up to 95 % of every second and a half, then jumps to where it should be."""
    period = max(2, round(1.5 * float(fps)))
    frozen = max(1, round(0.95 * strength * period))
    times = np.arange(len(frames))
    phase = (times + int(rng.integers(period))) % period
    chosen: Frames = frames[np.where(phase < frozen, np.maximum(times - phase, 0), times)]
    return chosen


def _judder(frames: Frames, fps: Fraction, strength: float, rng: np.random.Generator) -> Frames:
    """Every 0.2 s, the picture alternates between too early and too late, by up to half a second."""
    length = max(1, round(float(fps) / 5))
    shift = max(1, round(0.5 * float(fps) * strength))
    times = np.arange(len(frames))
    late = (times // length + int(rng.integers(2))) % 2
    chosen: Frames = frames[np.clip(times + np.where(late, -shift, shift), 0, len(frames) - 1)]
    return chosen


_CHANGES: dict[str, Callable[[Frames, Fraction, float, np.random.Generator], Frames]] = {
    "downscale": _downscale,
    "blur": _blur,
    "noise": _noise,
    "banding": _banding,
    "darkness": _darkness,
    "overexposure": _overexposure,
    "colour_cast": _colour_cast,
    "frame_drops": _frame_drops,
    "stutter": _stutter,
    "judder": _judder,
}
DISTORTIONS = (*_CRF, *_CHANGES, "packet_loss")
