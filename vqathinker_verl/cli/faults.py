"""Print the problems of the input, named and counted."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from vqathinker_verl.data.output import listed
from vqathinker_verl.inference.scoring import left_out

# Problems of one kind that are named on the terminal; the files name all of them.
MAX_NAMED = 20


def print_faults(kind: str, messages: Sequence[str]) -> None:
    """Name and count the problems of one kind on the standard error."""
    if messages:
        print(f"{kind}: {len(messages)}", file=sys.stderr)
    for message in messages[:MAX_NAMED]:
        print(f"  {message}", file=sys.stderr)
    if len(messages) > MAX_NAMED:
        print(f"  and {len(messages) - MAX_NAMED} more", file=sys.stderr)


def print_left_out(command: str, paths: Iterable[Path]) -> None:
    """Name the files in the folders among `paths` that a command leaves out."""
    if others := left_out(paths):
        count = f"left out {len(others)} files that are not videos, by their suffix"
        print(f"vqathinker {command}: {count}: {listed(others)}", file=sys.stderr)
