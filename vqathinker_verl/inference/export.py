"""From verl's checkpoint to a Hugging Face folder, by verl's own merger, that `score`, vLLM and transformers load."""

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from vqathinker_verl.frames import FrameSpec
from vqathinker_verl.inference.engines.contract import EXPORT_FILE

SHARD = re.compile(r"model_world_size_(\d+)_rank_(\d+)\.pt")
DTYPES = ("bfloat16", "float32")


class ExportError(ValueError):
    """A checkpoint that cannot be exported; the message says what was expected."""


def export_checkpoint(checkpoint: Path, output: Path | None = None, *, dtype: str | None = None) -> Path:
    """Merge verl's FSDP checkpoint into a Hugging Face folder.

    The folder is made beside `output` and moved there when it is complete, so that no half of a model is ever there.
    Where the run's configuration is still beside the checkpoint, the frames of its validation are written into the
    folder (vqathinker.json): `vqathinker score` shows the model the same.

    Args:
        checkpoint: OUTPUT_DIR of a run (its last checkpoint), or its checkpoints/global_step_N, or that one's actor.
        output: The folder to make; default: `huggingface_model` in the checkpoint's global_step_N.
        dtype: "bfloat16" or "float32"; default: what the run's rollouts sampled from, else bfloat16.

    Returns:
        The folder, with weights, configs, tokenizer, processor and chat template.

    Raises:
        ExportError: There is no whole checkpoint, the output exists, or verl's merger fails.
    """
    actor = find_actor(checkpoint)
    output = output if output is not None else actor.parent / "huggingface_model"
    if output.exists():
        raise ExportError(f"{output}: exists already; choose another --output, or delete it")
    config = run_config(actor)
    dtype = dtype or _rollout_dtype(config)
    draft = output.with_name(f".{output.name}.part")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        _merge(actor, draft, dtype)
        if config is not None:
            facts = {
                "frames": dataclasses.asdict(_validation_frames(config)),
                "true_times": config["true_times"],
                "checkpoint": actor.parent.name,
            }
            (draft / EXPORT_FILE).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        os.replace(draft, output)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return output


def find_actor(checkpoint: Path) -> Path:
    """The folder with the shards of the weights.

    Raises:
        ExportError: There is none, or some are missing.
    """
    candidates = [checkpoint, checkpoint / "actor"]
    for base in (checkpoint, checkpoint / "checkpoints"):
        steps = sorted(base.glob("global_step_*"), key=lambda path: int(path.name.rpartition("_")[2]))
        candidates += [path / "actor" for path in steps[-1:]]
    for actor in candidates:
        shards = [match for match in map(SHARD.fullmatch, os.listdir(actor) if actor.is_dir() else ()) if match]
        if shards:
            break
    else:
        raise ExportError(
            f"{checkpoint}: no verl checkpoint; expected the OUTPUT_DIR of a run, its checkpoints/global_step_N, or "
            "that one's actor folder with model_world_size_*_rank_*.pt"
        )
    world_size = max(int(match[1]) for match in shards)
    ranks = {int(match[2]) for match in shards if int(match[1]) == world_size}
    if absent := sorted(set(range(world_size)) - ranks):
        raise ExportError(f"{actor}: the shards of {len(absent)} of {world_size} ranks are missing, first {absent[0]}")
    if not (actor / "huggingface" / "config.json").is_file():
        raise ExportError(f"{actor}: no huggingface/config.json, which verl writes beside the shards; is it complete?")
    return actor


def run_config(actor: Path) -> dict[str, Any] | None:
    """The configuration of the run that a checkpoint OUTPUT_DIR/checkpoints/global_step_N/actor is of, if it is there.

    Raises:
        ExportError: It is there and cannot be read.
    """
    if len(actor.absolute().parents) < 3:
        return None
    path = actor.absolute().parents[2] / "hydra" / ".hydra" / "config.yaml"
    if not path.is_file():
        return None
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        config = OmegaConf.load(path)
        return {
            "frames": OmegaConf.to_container(config.data.frames.val),
            "true_times": bool(config.data.frames.get("true_times", False)),  # absent from older runs
            "dtype": config.actor_rollout_ref.rollout.dtype,
        }
    except (OSError, ValueError, AttributeError, OmegaConfBaseException) as error:
        raise ExportError(
            f"{path}: expected a run's configuration with data.frames.val and rollout.dtype ({error}); "
            "copy the checkpoint elsewhere to export it without"
        ) from error


def _validation_frames(config: dict[str, Any]) -> FrameSpec:
    return FrameSpec(**config["frames"])


def _rollout_dtype(config: dict[str, Any] | None) -> str:
    return "float32" if config is not None and config["dtype"] in ("float32", "fp32") else "bfloat16"


def _merge(actor: Path, target: Path, dtype: str) -> None:
    """Run verl's merger, in a process of its own: it holds the weights twice, and prints."""
    module = "vqathinker_verl.inference.merge"
    command = [sys.executable, "-m", module, os.fspath(actor), os.fspath(target), dtype]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode or not any(target.glob("*.safetensors")):
        raise ExportError(f"{actor}: verl's merger failed with exit code {done.returncode}:\n{done.stdout}")
