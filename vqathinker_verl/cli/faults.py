"""Faults of the input, named and counted on the terminal."""

import sys
from collections.abc import Sequence

# Faults of one kind that are named on the terminal; the files name them all.
MAX_NAMED = 20


def print_faults(kind: str, messages: Sequence[str]) -> None:
    """Name and count faults of one kind on the standard error."""
    if messages:
        print(f"{kind}: {len(messages)}", file=sys.stderr)
    for message in messages[:MAX_NAMED]:
        print(f"  {message}", file=sys.stderr)
    if len(messages) > MAX_NAMED:
        print(f"  and {len(messages) - MAX_NAMED} more", file=sys.stderr)
