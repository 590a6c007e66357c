"""All chains of a run: in parallel processes, resumed where they were interrupted."""

import json
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path

from vqathinker_verl.frames.video import VideoError
from vqathinker_verl.synthesis.chains import Chain, ChainTask, Step, make_chain, task_key


def make_chains(
    tasks: Sequence[ChainTask], journal: Path, *, workers: int, progress: bool = True
) -> tuple[list[Chain], dict[str, str]]:
    """Make the chains that the journal does not hold yet.

    Args:
        tasks: What to make.
        journal: JSONL that remembers the chains made so far. Failures are not remembered: they are tried again.
        workers: Processes.
        progress: Draw a progress bar on standard error, if that is a terminal.

    Returns:
        The chains, in the order of the tasks, and the reason for each source video that failed.

    Raises:
        RuntimeError: A process was killed, as for lack of memory.
    """
    from tqdm import tqdm

    known = read_journal(journal)
    made: dict[str, Chain] = {}
    failed: dict[str, str] = {}
    missing = []
    for task in tasks:
        chain = known.get(_key_or_empty(task))
        if chain is not None and all((task.folder / step.video).is_file() for step in _written(chain)):
            made[task.chain] = chain
        else:
            missing.append(task)
    if missing:
        journal.parent.mkdir(parents=True, exist_ok=True)
        context = get_context("spawn")  # FFmpeg's threads do not survive a fork
        with (
            journal.open("a", encoding="utf-8") as file,
            ProcessPoolExecutor(workers, mp_context=context, initializer=_quiet_encoders) as executor,
        ):
            futures = {executor.submit(make_chain, task): task for task in missing}
            bar = tqdm(total=len(tasks), initial=len(made), desc="chains", disable=None if progress else True)
            try:
                for future in as_completed(futures):
                    task = futures[future]
                    try:
                        chain = made[task.chain] = future.result()
                    except VideoError as error:
                        failed.setdefault(task.source, str(error))
                    except BrokenProcessPool:
                        raise RuntimeError(
                            "a worker process was killed, perhaps for lack of memory; run the same command again to "
                            "resume, with fewer --workers, a lower --max-height or fewer --max-seconds"
                        ) from None
                    else:
                        file.write(json.dumps(asdict(chain)) + "\n")
                        file.flush()
                    bar.update()
            finally:
                executor.shutdown(wait=False, cancel_futures=True)  # what is queued must not be made first
                bar.close()
    return [made[task.chain] for task in tasks if task.chain in made], failed


def read_journal(journal: Path) -> dict[str, Chain]:
    """The chains of a journal by their task's key; a line that a kill cut off is left out."""
    known: dict[str, Chain] = {}
    if journal.exists():
        for line in journal.read_text(encoding="utf-8").splitlines():
            try:
                row = json.loads(line)
                steps = tuple(Step(**step) for step in row.pop("steps"))
                chain = Chain(**{**row, "steps": steps, "dropped": tuple(row["dropped"])})
            except (ValueError, TypeError, KeyError):
                continue
            known[chain.task_key] = chain
    return known


def _written(chain: Chain) -> tuple[Step, ...]:
    return chain.steps if len(chain.steps) > 1 else ()


def _key_or_empty(task: ChainTask) -> str:
    try:
        return task_key(task)
    except OSError:
        return ""  # the worker says why


def _quiet_encoders() -> None:
    os.environ["SVT_LOG"] = "1"  # SVT-AV1 prints 20 lines per clip
