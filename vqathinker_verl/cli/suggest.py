"""Suggestions for a mistyped name."""

import difflib
from collections.abc import Iterable


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
