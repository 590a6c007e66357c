"""Remove old checkpoints after each save, as verl's `trainer.checkpoint_callback_class`."""

from pathlib import Path
from typing import Any

from verl.trainer.ppo.checkpoint_callback import CheckpointCallback

from vqathinker_verl.plugin.checkpoints import prune


class PruneCheckpoints(CheckpointCallback):
    """Removes checkpoints that are older than the newest `trainer.max_actor_ckpt_to_keep` complete ones."""

    def on_save(
        self, trainer: Any, global_step: int, checkpoint_dir: str, async_save: bool = False, **kwargs: Any
    ) -> None:
        """Called by verl's trainer after it has saved `checkpoint_dir`."""
        contents = self.config.actor_rollout_ref.actor.checkpoint.load_contents
        prune(Path(checkpoint_dir).parent, self.config.trainer.max_actor_ckpt_to_keep, contents)
