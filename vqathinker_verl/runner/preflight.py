"""Check a run before it starts, and report each problem in one line, within seconds.

The checks import Hydra, NumPy and pyarrow only: verl, torch and vLLM take minutes to start, and a mistyped field should
not cost that time.
"""

import math
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow.parquet
from omegaconf import DictConfig, OmegaConf

from vqathinker_verl.config.compose import InputError, composed
from vqathinker_verl.frames.positions import check_versions
from vqathinker_verl.inference.model_folder import ModelError, check_model
from vqathinker_verl.plugin.config import (
    TemporalConfig,
    cache_config,
    chains_share,
    extra_rewards,
    frame_spec,
    max_model_len_fault,
    reward_config,
    validation_response_length,
)
from vqathinker_verl.prompts import SCORE_RANGE
from vqathinker_verl.runner.machine import cpu_fault, has_flash_attention_2, shared_memory_fault

COLUMNS = ("data_source", "prompt", "videos", "reward_model", "extra_info")
MAX_LISTED = 5


def check(config_dir: Path, config_name: str, overrides: list[str]) -> DictConfig:
    """Compose the run's config and check everything that is known before the start.

    Returns:
        The composed config.

    Raises:
        InputError: a wrong override, a missing model, label file or video, a row that cannot be trained on.
    """
    config = composed(config_dir, config_name, overrides)
    check_settings(config)
    check_machine(config)
    try:
        check_versions()
    except RuntimeError as error:
        raise InputError(str(error)) from error
    try:
        check_model(config.actor_rollout_ref.model.path)
    except ModelError as error:
        raise InputError(f"{error} (--model, MODEL_PATH)") from error
    train_rows = sum(check_label_file(path) for path in listed(config.data.train_files))
    for path in listed(config.data.val_files):
        check_label_file(path)
    if train_rows < config.data.train_batch_size:
        raise InputError(
            f"data.train_files hold {train_rows} rows, fewer than data.train_batch_size "
            f"({config.data.train_batch_size}); pass --videos-per-step with at most {train_rows}, or add videos"
        )
    return config


def check_machine(config: DictConfig) -> None:
    """Check that this machine has enough CPUs, for which the run would wait, and enough shared memory.

    Raises:
        InputError: one is missing; the message has the command or the field that fixes it.
    """
    for fault in (cpu_fault(config), shared_memory_fault(config)):
        if fault:
            raise InputError(fault)


def check_settings(config: DictConfig) -> None:
    """Check everything in the config that needs neither the model nor the data.

    Raises:
        InputError: a value is out of range, or two fields contradict each other.
    """
    check_counts(config)
    check_attention(config.actor_rollout_ref.model)
    check_micro_batches(config)
    if fault := max_model_len_fault(config):
        raise InputError(fault)
    if config.algorithm.filter_groups.enable:
        raise InputError(
            "algorithm.filter_groups.enable: verl drops groups before the batch is complete, but rewards are known "
            "only afterwards, so no group would be dropped. Leave it false"
        )
    try:
        reward_config(config)
        TemporalConfig.from_config(config)
        extra_rewards(config)
        validation_response_length(config)
        chains_share(config.data)
        for split in ("train", "val"):
            frame_spec(split, 1, config.data)  # the model's patch size is neither known nor needed here
        decoder = cache_config(config.data).decoder
    except (TypeError, ValueError) as error:
        raise InputError(str(error)) from error
    if decoder == "decord" and find_spec("decord") is None:
        raise InputError("data.frames.decoder=decord: decord is not installed; install it, or leave the field at auto")


# Fields that must be positive integers, and how else a user sets them.
COUNTS = {
    "trainer.total_training_steps": "--steps, TOTAL_STEPS",
    "trainer.n_gpus_per_node": "--gpus, NGPUS_PER_NODE",
    "trainer.nnodes": "--nodes, NNODES",
    "data.train_batch_size": "--videos-per-step",
    "actor_rollout_ref.actor.ppo_mini_batch_size": "--videos-per-step",
    "actor_rollout_ref.rollout.n": "--responses-per-video",
}


def check_counts(config: DictConfig) -> None:
    """Check the numbers of steps, GPUs, nodes, videos and responses; verl reports some of these errors after minutes.

    Raises:
        InputError: one is not a positive integer, or a mini batch is larger than the batch.
    """
    for field, options in COUNTS.items():
        value = OmegaConf.select(config, field)
        if value is None and field == "trainer.total_training_steps":
            continue  # total_epochs decides
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise InputError(f"{field} ({options}): expected a positive integer, got {value!r}")
    batch, mini_batch = config.data.train_batch_size, config.actor_rollout_ref.actor.ppo_mini_batch_size
    if mini_batch > batch:
        raise InputError(
            f"actor_rollout_ref.actor.ppo_mini_batch_size={mini_batch} is above data.train_batch_size={batch}; "
            f"--videos-per-step {batch} sets both"
        )


def check_attention(model: DictConfig) -> None:
    """Check the attention: verl 0.9.1 packs sequences with flash-attn 2's functions without checking that they exist.

    Raises:
        InputError: `use_remove_padding` with another attention, or flash-attn 2 chosen where it is not installed.
    """
    attention = OmegaConf.select(model, "override_config.attn_implementation") or "flash_attention_2"
    if model.use_remove_padding and attention != "flash_attention_2":
        raise InputError(
            "actor_rollout_ref.model.use_remove_padding=true packs sequences for flash-attn 2, but "
            f"attn_implementation={attention}; set use_remove_padding=false, or install flash-attn 2 and set "
            "ATTENTION=flash_attention_2"
        )
    if attention == "flash_attention_2" and not has_flash_attention_2():
        raise InputError(
            "actor_rollout_ref.model.override_config.attn_implementation=flash_attention_2 needs the package "
            "flash-attn, version 2, which is not installed (flash-attn-4 is another one); use sdpa"
        )


# Which batch of videos each micro batch of responses is a part of, and the switch that lets verl choose its size.
MICRO_BATCHES = {
    "actor.ppo_micro_batch_size_per_gpu": ("actor_rollout_ref.actor.ppo_mini_batch_size", "actor.use_dynamic_bsz"),
    "rollout.log_prob_micro_batch_size_per_gpu": ("data.train_batch_size", "rollout.log_prob_use_dynamic_bsz"),
    "ref.log_prob_micro_batch_size_per_gpu": ("data.train_batch_size", "ref.log_prob_use_dynamic_bsz"),
}


def check_micro_batches(config: DictConfig) -> None:
    """Check that micro batches divide the responses of one worker; verl 0.9.1 fails in the first step, minutes later.

    Raises:
        InputError: one does not divide them.
    """
    parts = config.actor_rollout_ref
    workers = config.trainer.nnodes * config.trainer.n_gpus_per_node // parts.actor.ulysses_sequence_parallel_size
    for field, (batch, dynamic) in MICRO_BATCHES.items():
        size, videos = OmegaConf.select(parts, field), OmegaConf.select(config, batch)
        if size and not OmegaConf.select(parts, dynamic) and videos * parts.rollout.n % (workers * size):
            raise InputError(
                f"actor_rollout_ref.{field}={size} does not divide the responses of each of {workers} workers: {batch}="
                f"{videos} x rollout.n={parts.rollout.n} / {workers}; choose a divisor, or fewer workers"
            )


def check_label_file(path: str) -> int:
    """Check one parquet file of `vqathinker prepare`; return its number of rows.

    Raises:
        InputError: the file is missing, empty or not such a file; a MOS is outside [1, 5]; a video does not exist.
    """
    if not Path(path).is_file():
        raise InputError(f"{path}: no such label file; make it with `vqathinker prepare`")
    if Path(path).suffix != ".parquet":  # verl chooses the reader by the suffix
        raise InputError(f"{path}: the name does not end in .parquet; expected a file of `vqathinker prepare`")
    try:
        rows = pyarrow.parquet.read_table(path).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{path}: not a readable parquet file ({str(error).splitlines()[0]})") from error
    if not rows:
        raise InputError(f"{path}: no rows")
    missing_columns = [name for name in COLUMNS if name not in rows[0]]
    if missing_columns:
        raise InputError(f"{path}: no column {', '.join(missing_columns)}; make the file with `vqathinker prepare`")
    faults = [f"row {number}: {fault}" for number, row in enumerate(rows) if (fault := fault_of(row))]
    if faults:
        more = f" (and {len(faults) - MAX_LISTED} more)" if len(faults) > MAX_LISTED else ""
        raise InputError(f"{path}: {'; '.join(faults[:MAX_LISTED])}{more}; run `vqathinker prepare` again")
    return len(rows)


def fault_of(row: dict[str, Any]) -> str | None:
    """Return the problem of one row, or None."""
    low, high = SCORE_RANGE
    mos = (row["reward_model"] or {}).get("ground_truth")
    chain, strength = ((row["extra_info"] or {}).get(name) for name in ("chain", "strength"))
    if chain is not None:
        if not isinstance(strength, int | float) or not math.isfinite(strength):
            return f"strength {strength!r} of chain {chain!r}, expected a number"
    elif not isinstance(mos, int | float) or not low <= mos <= high:
        return f"MOS {mos!r}, expected a number in [{low:g}, {high:g}]"
    if not (row["extra_info"] or {}).get("video_id"):
        return "no extra_info.video_id"
    paths = [video["video"] if isinstance(video, dict) else video for video in row["videos"] or []]
    if len(paths) != 1:
        return f"{len(paths)} videos, expected one"
    if not Path(paths[0]).is_file():
        return f"no such video: {paths[0]}"
    return None


def listed(files: Any) -> list[str]:
    """Return the paths of a field that has one path or a list of them."""
    return [files] if isinstance(files, str) else list(files)
