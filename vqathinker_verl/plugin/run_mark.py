"""The mark that every process of a run carries in its environment: the launcher finds and ends them by it."""

import os

RUN_MARK = "VQATHINKER_RUN"


def run_of_this_process() -> str | None:
    """The run's id; None in a process that the launcher did not start (a worker of a cluster that was there before)."""
    return os.environ.get(RUN_MARK)
