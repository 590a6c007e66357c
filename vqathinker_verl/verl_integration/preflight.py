"""What can be known to be wrong before a run starts, told in one line each, within seconds.

Hydra, NumPy and pyarrow only: verl, torch and vLLM take minutes to start, and a mistyped field should not cost those.
"""

import importlib.util
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow.parquet
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from vqathinker_verl.frames.positions import check_versions
from vqathinker_verl.prompts import SCORE_RANGE
from vqathinker_verl.rewards.combine import RewardConfig
from vqathinker_verl.verl_integration.config import (
    TemporalConfig,
    cache_config,
    extra_rewards,
    frame_spec,
    validation_response_length,
)

COLUMNS = ("data_source", "prompt", "videos", "reward_model", "extra_info")
REQUIRED = ("actor_rollout_ref.model.path", "data.train_files", "data.val_files")
MAX_LISTED = 5


class InputError(ValueError):
    """Something the user gave is wrong; the message is one line that says what, where and what to do."""


def check(config_dir: Path, config_name: str, overrides: list[str]) -> DictConfig:
    """Compose the run's config and check all that is known before the start.

    Returns:
        The composed config.

    Raises:
        InputError: a wrong override, a missing model, label file or video, a row that cannot be trained on.
    """
    config = composed(config_dir, config_name, overrides)
    try:
        check_versions()
    except RuntimeError as error:
        raise InputError(str(error)) from error
    check_model(config.actor_rollout_ref.model.path)
    check_attention(config.actor_rollout_ref.model)
    check_micro_batches(config)
    if config.algorithm.filter_groups.enable:
        raise InputError(
            "algorithm.filter_groups.enable: verl drops groups before the whole batch is there, and rewards are known "
            "only then; nothing would be dropped. Leave it false"
        )
    try:
        RewardConfig.from_mapping(OmegaConf.to_container(config.vqathinker.reward, resolve=True))
        TemporalConfig.from_config(config)
        extra_rewards(config)
        validation_response_length(config)
        for split in ("train", "val"):
            frame_spec(split, 1, config.data)  # the model's patch size is not known here, nor needed
        decoder = cache_config(config.data).decoder
    except (TypeError, ValueError) as error:
        raise InputError(str(error)) from error
    if decoder == "decord" and importlib.util.find_spec("decord") is None:
        raise InputError("data.frames.decoder=decord: decord is not installed; install it, or leave the field at auto")
    train_rows = sum(check_label_file(path) for path in _listed(config.data.train_files))
    for path in _listed(config.data.val_files):
        check_label_file(path)
    if train_rows < config.data.train_batch_size:
        raise InputError(
            f"data.train_files hold {train_rows} rows, fewer than data.train_batch_size "
            f"({config.data.train_batch_size}); lower the batch size or add videos"
        )
    return config


def composed(config_dir: Path, config_name: str, overrides: list[str]) -> DictConfig:
    """The config that verl will see.

    Raises:
        InputError: an override names a field that does not exist, or cannot be parsed; a required field is not set.
    """
    try:
        with initialize_config_dir(str(config_dir.resolve()), version_base=None):
            # hydra.* overrides are for Hydra's own launcher, which does not run here.
            overrides = [item for item in overrides if not item.startswith("hydra.")]
            config = compose(config_name, overrides=[*overrides, f"hydra.searchpath=[file://{verl_config_dir()}]"])
        OmegaConf.to_container(config, resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        causes = [str(item).splitlines()[0] for item in (error, error.__cause__) if item is not None and str(item)]
        raise InputError(f"config: {': '.join(dict.fromkeys(causes))}") from error
    for field in REQUIRED:
        if OmegaConf.is_missing(OmegaConf.select(config, field.rpartition(".")[0]), field.rpartition(".")[2]):
            raise InputError(f"config: {field} is not set; give {field}=...")
    return config


def verl_config_dir() -> Path:
    """The folder of verl's YAML files, found without importing verl (as `pkg://` would, for 17 s on two cores)."""
    spec = importlib.util.find_spec("verl")
    if spec is None or not spec.submodule_search_locations:
        raise InputError("verl is not installed in this environment; run recipes/install.sh")
    return Path(spec.submodule_search_locations[0]) / "trainer" / "config"


def check_model(path: str) -> None:
    """A local model must be a folder with a config.json; a hub name must look like one.

    Raises:
        InputError: neither is the case, or the hub is switched off.
    """
    folder = Path(path).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise InputError(f"model {path}: no config.json in this folder; expected a Hugging Face checkpoint")
        return
    looks_like_hub_name = re.fullmatch(r"[\w.-]+/[\w.-]+", path) is not None
    if not looks_like_hub_name or os.environ.get("HF_HUB_OFFLINE") == "1":
        raise InputError(f"model {path}: no such folder; set MODEL_PATH to a Hugging Face checkpoint's folder")


def check_attention(model: DictConfig) -> None:
    """Verl 0.9.1 packs sequences for flash-attn's attention over variable lengths, and does not check that it is used.

    Raises:
        InputError: `use_remove_padding` with another attention than flash-attn's.
    """
    attention = OmegaConf.select(model, "override_config.attn_implementation") or "flash_attention_2"
    if model.use_remove_padding and not attention.startswith("flash_attention"):
        raise InputError(
            f"actor_rollout_ref.model.use_remove_padding=true packs sequences for flash-attn, but attn_implementation="
            f"{attention}; set use_remove_padding=false, or install flash-attn and set ATTENTION=flash_attention_2"
        )


# Which batch of videos each micro batch of responses is a part of, and the switch that lets verl choose its size.
MICRO_BATCHES = {
    "actor.ppo_micro_batch_size_per_gpu": ("actor_rollout_ref.actor.ppo_mini_batch_size", "actor.use_dynamic_bsz"),
    "rollout.log_prob_micro_batch_size_per_gpu": ("data.train_batch_size", "rollout.log_prob_use_dynamic_bsz"),
    "ref.log_prob_micro_batch_size_per_gpu": ("data.train_batch_size", "ref.log_prob_use_dynamic_bsz"),
}


def check_micro_batches(config: DictConfig) -> None:
    """Micro batches must divide what one worker has; verl 0.9.1 finds that out in the first step, minutes later.

    Raises:
        InputError: one does not.
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
    """Check one parquet file of `vqathinker prepare`; returns its number of rows.

    Raises:
        InputError: the file is missing, empty or not such a file; a MOS is outside [1, 5]; a video does not exist.
    """
    if not Path(path).is_file():
        raise InputError(f"{path}: no such label file; make it with `vqathinker prepare`")
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
    """What is wrong with one row, or None."""
    low, high = SCORE_RANGE
    mos = (row["reward_model"] or {}).get("ground_truth")
    if not isinstance(mos, int | float) or not low <= mos <= high:
        return f"MOS {mos!r}, expected a number in [{low:g}, {high:g}]"
    if not (row["extra_info"] or {}).get("video_id"):
        return "no extra_info.video_id"
    paths = [video["video"] if isinstance(video, dict) else video for video in row["videos"] or []]
    if len(paths) != 1:
        return f"{len(paths)} videos, expected one"
    if not Path(paths[0]).is_file():
        return f"no such video: {paths[0]}"
    return None


def _listed(files: Any) -> Iterable[str]:
    return [files] if isinstance(files, str) else list(files)
