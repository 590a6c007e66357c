"""From verl's checkpoint to a Hugging Face folder, by verl's own merger, that `score`, vLLM and transformers load."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from vqathinker_verl.files import check_writable
from vqathinker_verl.frames import FrameSpec
from vqathinker_verl.inference.engines.contract import EXPORT_FILE, ModelDefaults, Sampling
from vqathinker_verl.inference.preset import read_preset
from vqathinker_verl.prompts import QUALITY_PROMPT

SHARD = re.compile(r"model_world_size_(\d+)_rank_(\d+)\.pt")
DTYPES = ("bfloat16", "float32")


class ExportError(ValueError):
    """A checkpoint that cannot be exported; the message says what was expected."""


def export_checkpoint(
    checkpoint: Path, output: Path | None = None, *, dtype: str | None = None, preset: str | None = None
) -> Path:
    """Merge verl's FSDP checkpoint into a Hugging Face folder.

    The folder is made beside `output` and moved there when it is complete, so that no half of a model is ever there.
    Where the run's configuration is still beside the checkpoint, the frames, question and sampling of its validation
    are written into the folder (vqathinker.json): scoring asks the model in the same way.

    Args:
        checkpoint: OUTPUT_DIR of a run (its last checkpoint), or its checkpoints/global_step_N, or that one's actor.
        output: The folder to make; default: `huggingface_model` in the checkpoint's global_step_N.
        dtype: "bfloat16" or "float32"; default: what the run's rollouts sampled from, else bfloat16.
        preset: Name or file of a preset that the folder is to carry, in place of the run's validation.

    Returns:
        The folder, with weights, configs, tokenizer, processor and chat template.

    Raises:
        ExportError: There is no complete checkpoint, the output exists and is another model, or verl's merger fails.
        ValueError: There is no such preset, or its file is wrong.
        OSError: The folder cannot be written.
    """
    defaults = None if preset is None else read_preset(preset)
    actor = find_actor(checkpoint)
    output = output if output is not None else actor.parent / "huggingface_model"
    source = source_of(actor)
    if output.exists():
        facts = _facts(output)
        if facts.get("source") == source and facts.get("preset") == (defaults.preset if defaults else None):
            return output
        raise ExportError(f"{output}: exists already and is another model; choose another --output-dir, or delete it")
    check_writable(output)
    config = run_config(actor)
    dtype = dtype or _rollout_dtype(config)
    draft = output.with_name(f".{output.name}.part")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        _merge(actor, draft, dtype)
        if defaults is None and config is not None:
            defaults = validation_defaults(config)
        if defaults is not None:
            # Without a configuration nothing says that the run is older than the frames' true times.
            true_times = config is None or config["true_times"]
            facts = {"checkpoint": actor.parent.name, "source": source, "true_times": true_times, **defaults.as_json()}
            (draft / EXPORT_FILE).write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        for path in draft.iterdir():  # safetensors makes files that only their owner can read
            path.chmod(0o666 & ~_umask())
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
        rollout = config.actor_rollout_ref.rollout
        return {
            "frames": OmegaConf.to_container(config.data.frames.val),
            "true_times": bool(config.data.frames.get("true_times", False)),  # absent from older runs
            "dtype": rollout.dtype,
            "max_tokens": config.data.get("max_response_length"),
            "val_kwargs": OmegaConf.to_container(rollout.get("val_kwargs") or OmegaConf.create({})),
            "val_files": config.data.get("val_files"),
        }
    except (OSError, ValueError, AttributeError, OmegaConfBaseException) as error:
        raise ExportError(
            f"{path}: expected a run's configuration with data.frames.val and rollout.dtype ({error}); "
            "copy the checkpoint elsewhere to export it without"
        ) from error


def validation_defaults(config: dict[str, Any]) -> ModelDefaults:
    """How the run asked its model at validation.

    Args:
        config: What `run_config` returned.
    """
    drawn = config["val_kwargs"]
    sampling = Sampling(
        max_tokens=config["max_tokens"] or Sampling.max_tokens,
        temperature=float(drawn.get("temperature", Sampling.temperature)),
        top_p=float(drawn.get("top_p", Sampling.top_p)),
    )
    samples = int(drawn.get("n", 1)) if sampling.temperature > 0 else 1
    return ModelDefaults(FrameSpec(**config["frames"]), sampling, _question(config["val_files"]), samples)


def _question(val_files: Any) -> str:
    """The question of the run's validation file; the paper's where the file is gone, or asks several."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = val_files if isinstance(val_files, str) else next(iter(val_files or []), "")
    try:
        prompts = pq.read_table(path, columns=["prompt"]).column("prompt").to_pylist()
        questions = {messages[-1]["content"].removeprefix("<video>") for messages in prompts}
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, IndexError):
        return QUALITY_PROMPT
    return str(questions.pop()) if len(questions) == 1 else QUALITY_PROMPT


def source_of(actor: Path) -> str:
    """What tells one save of a checkpoint from another: its step, and when its weights were written."""
    shard = min(path for path in actor.iterdir() if SHARD.fullmatch(path.name))
    return f"{actor.parent.name} of {shard.stat().st_mtime_ns}"


def _facts(folder: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / EXPORT_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def _umask() -> int:
    """The mask of new files, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _rollout_dtype(config: dict[str, Any] | None) -> str:
    return "float32" if config is not None and config["dtype"] in ("float32", "fp32") else "bfloat16"


def _merge(actor: Path, target: Path, dtype: str) -> None:
    """Run verl's merger, in a process of its own: it holds the weights twice, and prints."""
    module = "vqathinker_verl.inference.merge"
    command = [sys.executable, "-m", module, os.fspath(actor), os.fspath(target), dtype]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode or not any(target.glob("*.safetensors")):
        raise ExportError(f"{actor}: verl's merger failed with exit code {done.returncode}:\n{done.stdout}")
