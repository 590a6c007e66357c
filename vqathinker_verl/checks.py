"""Checks of arguments: arrays that enter the rewards and the metrics, and names that a user typed."""

import difflib
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def as_vector(name: str, values: ArrayLike, *, length: int | None = None, nan_allowed: bool = False) -> FloatArray:
    """Return `values` as a float64 vector (N,).

    Args:
        name: what the errors call it.
        values: one-dimensional numbers.
        length: the N that is required.
        nan_allowed: whether NaN ("no score") may occur; infinite values never may.

    Raises:
        ValueError: for another shape or length, or for a value that is not finite, with its position.
    """
    try:
        vector = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: expected numbers, {error}") from error
    if vector.ndim != 1:
        raise ValueError(f"{name}: expected one dimension, got shape {vector.shape}")
    if length is not None and len(vector) != length:
        raise ValueError(f"{name}: expected {length} values, one per response, got {len(vector)}")
    faulty = np.isinf(vector) if nan_allowed else ~np.isfinite(vector)
    if faulty.any():
        position = int(np.argmax(faulty))
        raise ValueError(
            f"{name}[{position}]: expected a finite number{' or NaN' if nan_allowed else ''}, got {vector[position]}"
        )
    return vector


def make_read_only(record: Any) -> None:
    """Replace the arrays of a frozen dataclass by views that cannot be written to; what they view stays as it was."""
    for entry in fields(record):
        value = getattr(record, entry.name)
        if isinstance(value, np.ndarray):
            view = value.view()
            view.flags.writeable = False
            object.__setattr__(record, entry.name, view)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return "; did you mean X?" for the known name closest to `name`, or an empty text if none is close.

    >>> did_you_mean("--total-steps", ["--steps", "--model"])
    '; did you mean --steps?'
    >>> did_you_mean("data.train_batch_siz", ["data.train_batch_size", "data.val_batch_size"])
    '; did you mean data.train_batch_size?'
    >>> did_you_mean("x", ["--steps"])
    ''
    """
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {found[0]}?" if found else ""
