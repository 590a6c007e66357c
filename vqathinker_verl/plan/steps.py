"""How much work a step and an epoch are, and what the temporal pair adds to it."""

from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig, ListConfig

from vqathinker_verl.plugin.config import TemporalConfig

LSVQ_TRAIN_ROWS = 28056  # the example where no label file is given: LSVQ's training split


@dataclass(frozen=True)
class Steps:
    """One step's prompts and responses, and an epoch's steps."""

    rows: int
    example: bool  # whether `rows` are LSVQ's and not those of a file
    videos: int
    responses: int
    perturbed: int
    ranked: int  # videos that are ranked among each other
    updates: int  # of the optimizer
    per_epoch: int
    total: int


def count_steps(config: DictConfig) -> Steps:
    """Count them from the config and, if there is one, the training file's header."""
    rows = training_rows(config)
    videos, group = config.data.train_batch_size, config.actor_rollout_ref.rollout.n
    perturbed = TemporalConfig.from_config(config).perturbed_per_group(group)
    mode = config.trainer.v1.trainer_mode
    # verl's separate_async samples one mini-batch at a time, and a ranking batch is what was sampled.
    ranked = config.actor_rollout_ref.actor.ppo_mini_batch_size if mode.endswith("separate_async") else videos
    ranked = min(ranked, config.vqathinker.reward.ranking_chunk_size or ranked)
    per_epoch = (LSVQ_TRAIN_ROWS if rows is None else rows) // videos
    return Steps(
        rows=LSVQ_TRAIN_ROWS if rows is None else rows,
        example=rows is None,
        videos=videos,
        responses=videos * group,
        perturbed=videos * perturbed,
        ranked=ranked,
        updates=config.actor_rollout_ref.actor.ppo_epochs
        * max(videos // config.actor_rollout_ref.actor.ppo_mini_batch_size, 1),
        per_epoch=per_epoch,
        total=config.trainer.total_training_steps or per_epoch * config.trainer.total_epochs,
    )


def training_rows(config: DictConfig) -> int | None:
    """Rows of `data.train_files`, from the files' headers; None where none are given."""
    import pyarrow.parquet

    files = config.data.train_files
    if not files:
        return None
    listed = list(files) if isinstance(files, ListConfig) else [files]
    return sum(pyarrow.parquet.read_metadata(Path(path).expanduser()).num_rows for path in listed)
