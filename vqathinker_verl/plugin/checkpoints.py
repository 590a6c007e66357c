"""Which checkpoint a start goes on from: the last whole one; and which are kept.

verl 0.9.1 goes on from the step in `latest_checkpointed_iteration.txt`, whatever state its files are in: a file that a
power cut left short ends the start minutes later, an empty tracker ends it too, and a missing folder starts from
scratch without a word. Here the files are looked at first, and an earlier whole checkpoint is taken where there is one.
It removes old ones that the same start has saved, and of those the weights alone; here all starts' are counted.
"""

import shutil
import sys
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from omegaconf import DictConfig

from vqathinker_verl.config.compose import InputError

TRACKER = "latest_checkpointed_iteration.txt"
FILES = {"model": "model", "optimizer": "optim", "extra": "extra_state"}  # of verl's FSDP checkpoints, by content


def resume_overrides(config: DictConfig) -> list[str]:
    """Overrides that make verl go on from the last whole checkpoint; none where verl finds it by itself.

    Args:
        config: the composed config; `trainer.resume_mode` other than `auto` is the user's own choice and stays.

    Raises:
        InputError: checkpoints were saved, and none of them is whole.
    """
    if config.trainer.resume_mode != "auto":
        return []
    folder = Path(config.trainer.default_local_dir)
    contents = config.actor_rollout_ref.actor.checkpoint.load_contents
    saved = saved_step(folder)
    steps = sorted(_steps(folder), reverse=True)
    faults = [] if saved is None or saved in steps else [f"global_step_{saved} is not there"]
    for step in steps if saved is None else [step for step in steps if step <= saved]:
        fault = fault_of(folder / f"global_step_{step}", contents)
        if fault is None:
            if step == saved:
                return []
            said = "; ".join(faults) or f"{TRACKER} names no step"
            print(f"vqathinker: {folder}: {said}; going on from global_step_{step}", file=sys.stderr)
            return ["trainer.resume_mode=resume_path", f"trainer.resume_from_path={folder}/global_step_{step}"]
        faults.append(f"global_step_{step} is not whole ({fault})")
    if not (folder / TRACKER).exists():
        return []  # no save ever came to its end
    raise InputError(
        f"{folder}: {'; '.join(faults) or f'{TRACKER} names no step'}; no whole checkpoint to go on from. To start "
        "from the beginning remove this folder, or choose another OUTPUT_DIR"
    )


def prune(folder: Path, keep: int | None, contents: Iterable[str]) -> list[int]:
    """Remove what is older than the newest `keep` whole checkpoints; returns the steps removed.

    Those after the one that was saved last are left, as a start that went back before them will write them again.

    Args:
        folder: of the checkpoints.
        keep: None keeps all.
        contents: what makes a checkpoint whole, as in `fault_of`.
    """
    saved = saved_step(folder)
    if keep is None or keep < 1 or saved is None:
        return []
    steps = sorted(step for step in _steps(folder) if step <= saved)
    whole = [step for step in steps if fault_of(folder / f"global_step_{step}", contents) is None]
    if saved not in whole:
        return []
    old = [step for step in steps if step < whole[-keep:][0]]
    for step in old:
        shutil.rmtree(folder / f"global_step_{step}", ignore_errors=True)
    return old


def saved_step(folder: Path) -> int | None:
    """The step whose checkpoint verl last finished; None where its tracker says none, or was cut off."""
    try:
        return int((folder / TRACKER).read_text())
    except (FileNotFoundError, ValueError):
        return None


def fault_of(checkpoint: Path, contents: Iterable[str]) -> str | None:
    """What one checkpoint lacks, or None: every rank's file of each content, and the data loader's state.

    A PyTorch file is a zip archive, with its directory at the end: one that was cut off has none. Contents are not
    read, as they are hundreds of gigabytes in a real run.
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


def _steps(folder: Path) -> list[int]:
    names = [path.name.removeprefix("global_step_") for path in folder.glob("global_step_*") if path.is_dir()]
    return [int(name) for name in names if name.isdigit()]
