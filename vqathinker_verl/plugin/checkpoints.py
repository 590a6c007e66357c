"""Find the complete checkpoints of a run, and remove old ones.

verl 0.9.1 removes only old checkpoints that the same start has saved, and of those only the weights; here the
checkpoints of all starts are counted. The module imports nothing heavy, so that the launcher can use it, too.
"""

import shutil
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

TRACKER = "latest_checkpointed_iteration.txt"
FILES = {"model": "model", "optimizer": "optim", "extra": "extra_state"}  # of verl's FSDP checkpoints, by content


def prune(folder: Path, keep: int | None, contents: Iterable[str]) -> list[int]:
    """Remove checkpoints that are older than the newest `keep` complete ones; return the steps removed.

    Checkpoints of later steps than the last saved one are kept: a start that resumed before them will write them again.

    Args:
        folder: of the checkpoints.
        keep: None keeps all.
        contents: what a complete checkpoint holds, as in `find_problem`.
    """
    saved = saved_step(folder)
    if keep is None or keep < 1 or saved is None:
        return []
    steps = sorted(step for step in steps_in(folder) if step <= saved)
    complete = [step for step in steps if find_problem(folder / f"global_step_{step}", contents) is None]
    if saved not in complete:
        return []
    old = [step for step in steps if step < complete[-keep:][0]]
    for step in old:
        shutil.rmtree(folder / f"global_step_{step}", ignore_errors=True)
    return old


def saved_step(folder: Path) -> int | None:
    """The step whose checkpoint verl last finished; None where its tracker says none, or was cut off."""
    try:
        return int((folder / TRACKER).read_text())
    except (FileNotFoundError, ValueError):
        return None


def find_problem(checkpoint: Path, contents: Iterable[str]) -> str | None:
    """Return what one checkpoint lacks, or None: it needs every rank's file of each content and the loader's state.

    A PyTorch file is a zip archive with its directory at the end, so a file that was cut off has no directory. Contents
    are not read, because they are hundreds of gigabytes in a real run.
    """
    actor = checkpoint / "actor"
    expected: list[Sequence[Path]] = [[checkpoint / "data.pt"]]
    for content in contents:
        if prefix := FILES.get(content):
            expected.append(_of_all_ranks(actor, prefix))
    for path in (path for paths in expected for path in paths):
        if not path.is_file():
            return f"{path.relative_to(checkpoint)} is missing"
        if not zipfile.is_zipfile(path):
            return f"{path.relative_to(checkpoint)} is cut off or no PyTorch file"
    return None


def _of_all_ranks(actor: Path, prefix: str) -> list[Path]:
    """Paths of one content's files, as the number of ranks in the first one's name says."""
    found = sorted(actor.glob(f"{prefix}_world_size_*_rank_*.pt"))
    if not found:
        return [actor / f"{prefix}_world_size_1_rank_0.pt"]
    world_size = int(found[0].name.removeprefix(f"{prefix}_world_size_").split("_")[0])
    return [actor / f"{prefix}_world_size_{world_size}_rank_{rank}.pt" for rank in range(world_size)]


def steps_in(folder: Path) -> list[int]:
    """Steps with a checkpoint folder, complete or not, in no order."""
    names = [path.name.removeprefix("global_step_") for path in folder.glob("global_step_*") if path.is_dir()]
    return [int(name) for name in names if name.isdigit()]
