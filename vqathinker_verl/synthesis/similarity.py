"""SSIM, which decides whether two strengths of a distortion differ visibly."""

import numpy as np
from numpy.typing import NDArray

WINDOW = 7  # pixels per side
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def ssim(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """Mean structural similarity of two clips, over all frames, pixels and the three colour channels.

    Z. Wang et al., "Image quality assessment: from error visibility to structural similarity", 2004, with a uniform
    window. Colours are compared as well as brightness, so that a colour cast counts.

    Args:
        first: (T, H, W, 3) frames, with H and W of at least `WINDOW`.
        second: Frames of the same shape.

    Returns:
        A number up to 1; 1 for equal frames.

    Raises:
        ValueError: The shapes differ, or the frames are smaller than the window.

    >>> frames = np.arange(300, dtype=np.uint8).reshape(1, 10, 10, 3)
    >>> ssim(frames, frames)
    1.0
    """
    from scipy.ndimage import uniform_filter

    if first.shape != second.shape or first.ndim != 4 or min(first.shape[1:3]) < WINDOW:
        raise ValueError(
            f"expected two clips (T, H, W, 3) of one shape with sides of at least {WINDOW}, got {first.shape} and "
            f"{second.shape}"
        )
    values = []
    size, edge = (WINDOW, WINDOW, 1), WINDOW // 2
    for x, y in zip(first.astype(np.float64), second.astype(np.float64), strict=True):
        mean_x, mean_y = uniform_filter(x, size), uniform_filter(y, size)
        var_x = uniform_filter(x * x, size) - mean_x**2
        var_y = uniform_filter(y * y, size) - mean_y**2
        covariance = uniform_filter(x * y, size) - mean_x * mean_y
        score = ((2 * mean_x * mean_y + _C1) * (2 * covariance + _C2)) / (
            (mean_x**2 + mean_y**2 + _C1) * (var_x + var_y + _C2)
        )
        values.append(score[edge:-edge, edge:-edge].mean())
    return float(np.mean(values))
