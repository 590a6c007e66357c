"""Map MOS from a dataset's own scale to the scale on which the model answers."""

import math

from vqathinker_verl.prompts import SCORE_RANGE


def map_mos(mos: float, scale: tuple[float, float], *, lower_is_better: bool = False) -> float:
    """Map a MOS linearly from `scale` to [1, 5].

    Args:
        mos: MOS on the dataset's own scale.
        scale: The lowest and highest score that a viewer could give, not the lowest and highest MOS seen.
        lower_is_better: The best score is the lowest, as of DMOS; it becomes 5.

    Raises:
        ValueError: The scale is empty, or the MOS is not a number inside it.

    >>> map_mos(62.5, (0.0, 100.0))
    3.5
    >>> map_mos(25.0, (0.0, 100.0), lower_is_better=True)
    4.0
    """
    low, high = scale
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"expected a scale from a lower to a higher number, got {low:g} to {high:g}")
    if not low <= mos <= high:
        raise ValueError(f"expected a MOS between {low:g} and {high:g}, got {mos:g}")
    lowest, highest = SCORE_RANGE
    if lower_is_better:
        lowest, highest = highest, lowest
    return lowest + (mos - low) / (high - low) * (highest - lowest)
