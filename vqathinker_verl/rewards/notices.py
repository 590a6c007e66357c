"""Warnings that are given once per process, however often the cause recurs."""

import warnings
from functools import cache


@cache
def warn_once(message: str) -> None:
    """Warn with `message`, the first time only; a training run repeats the cause at every step."""
    warnings.warn(message, UserWarning, stacklevel=3)
