"""The temporal bonus as plain loops over responses, straight from SPEC section 3."""

import math


def plain_temporal_bonus(original, perturbed, *, threshold, bonus=0.3, scope="video", margin=0.0):
    """Return a list of bonuses; `original` and `perturbed` are lists of (reward, video)."""
    earned = []
    for reward, video in original:
        own, other = [], []
        for value, group in original:
            if group == video or (scope == "batch" and _has_both(group, original, perturbed)):
                own.append(value)
        for value, group in perturbed:
            if group == video or (scope == "batch" and _has_both(group, original, perturbed)):
                other.append(value)
        won = _has_both(video, original, perturbed)
        if won:
            gap = math.fsum(own) / len(own) - math.fsum(other) / len(other)
            # A billionth counts as equal: the means of 8 and of 3 equal numbers differ in their last digit.
            if margin == 0:
                won = gap >= -1e-9
            else:
                won = gap >= margin - 1e-9 and gap >= 1e-9
        earned.append(bonus if won and reward > threshold else 0.0)
    return earned


def _has_both(video, original, perturbed):
    return any(group == video for _, group in original) and any(group == video for _, group in perturbed)
