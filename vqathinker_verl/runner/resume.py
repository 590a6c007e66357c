"""Which checkpoint a start resumes from: the last complete one.

verl 0.9.1 resumes from the step in `latest_checkpointed_iteration.txt`, whatever state its files are in: a file that a
power cut truncated ends the start minutes later, an empty tracker ends it too, and a missing folder starts from
scratch without a message. Here the files are looked at first, and an earlier complete checkpoint is taken where there
is one.
"""

import sys
from pathlib import Path

from omegaconf import DictConfig

from vqathinker_verl.config.compose import InputError
from vqathinker_verl.plugin.checkpoints import TRACKER, find_problem, saved_step, steps_in


def resume_overrides(config: DictConfig) -> list[str]:
    """Overrides that make verl resume from the last complete checkpoint; none where verl finds it by itself.

    Args:
        config: the composed config; `trainer.resume_mode` other than `auto` is the user's own choice and stays.

    Raises:
        InputError: checkpoints were saved, and none of them is complete.
    """
    if config.trainer.resume_mode != "auto":
        return []
    folder = Path(config.trainer.default_local_dir)
    contents = config.actor_rollout_ref.actor.checkpoint.load_contents
    saved = saved_step(folder)
    steps = sorted(steps_in(folder), reverse=True)
    problems = [] if saved is None or saved in steps else [f"global_step_{saved} is missing"]
    for step in steps if saved is None else [step for step in steps if step <= saved]:
        problem = find_problem(folder / f"global_step_{step}", contents)
        if problem is None:
            if step == saved:
                return []
            reason = "; ".join(problems) or f"{TRACKER} names no step"
            print(f"vqathinker: {folder}: {reason}; resuming from global_step_{step}", file=sys.stderr)
            return ["trainer.resume_mode=resume_path", f"trainer.resume_from_path={folder}/global_step_{step}"]
        problems.append(f"global_step_{step} is incomplete ({problem})")
    if not (folder / TRACKER).exists():
        return []  # no save was ever finished
    raise InputError(
        f"{folder}: {'; '.join(problems) or f'{TRACKER} names no step'}; there is no complete checkpoint to resume "
        "from. To start from the beginning remove this folder or choose another OUTPUT_DIR"
    )
