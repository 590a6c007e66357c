"""One process of several, as torchrun starts them: calls the reward functions with this process's shares.

    python -m torch.distributed.run --nproc-per-node 2 trl_process.py CALLS RESULTS

CALLS is a pickled list of (reward function, keyword arguments for each process). What the functions return, or the
text of their error, goes into a JSON file in the folder RESULTS, one file per process.
"""

import json
import pickle
import sys
from pathlib import Path

from accelerate import Accelerator


def outcome(function, arguments):
    try:
        return function(**arguments)
    except ValueError as error:
        return str(error)


def main(calls, results):
    # As TRL's trainer does; on a CPU the processes talk through gloo.
    state = Accelerator(cpu=True).state
    assert state.num_processes == 2
    assert state.backend == "gloo"
    outcomes = [
        outcome(function, shares[state.process_index]) for function, shares in pickle.loads(Path(calls).read_bytes())
    ]
    Path(results, f"{state.process_index}.json").write_text(json.dumps(outcomes))


if __name__ == "__main__":
    main(*sys.argv[1:])
