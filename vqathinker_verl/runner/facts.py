"""What a run will do, from its configuration: the lines above its screen, and the numbers that the screen needs."""

import json
import os
import struct
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
from omegaconf import DictConfig, ListConfig

from vqathinker_verl import __version__
from vqathinker_verl.plan.steps import count_steps

GIB = 2**30


def facts_of(config: DictConfig) -> dict[str, Any]:
    """Facts of a run, as they are kept in run.json.

    Args:
        config: composed, and checked by the preflight: model and label files are there.

    Returns:
        `title` and the texts `model`, `data`, `steps`, `batch`, `device` for a reader; `total_steps`, `test_freq`,
        `save_freq` (0: never), `first_validation`, `max_response_length`, `gpu` and `val_files` for the screen.
    """
    steps, trainer, group = count_steps(config), config.trainer, config.actor_rollout_ref.rollout.n
    total = int(steps.total)
    test_freq, save_freq = max(int(trainer.test_freq), 0), max(int(trainer.save_freq), 0)
    perturbed = steps.perturbed // steps.videos
    pair = f" + {perturbed} to a perturbed copy" if perturbed else ""
    return {
        "title": f"VQAThinker {__version__}, GRPO on verl {_version('verl')}",
        "model": _model(config),
        "data": _data(config),
        "steps": f"{total}; validation {_every(test_freq)}, checkpoint {_every(save_freq)}",
        "batch": f"{steps.videos} videos x ({group} answers{pair})",
        "device": _device(config),
        "total_steps": total,
        "test_freq": test_freq,
        "save_freq": save_freq,
        "first_validation": bool(trainer.get("val_before_train", True)),
        "max_response_length": int(config.data.max_response_length),
        "gpu": trainer.device != "cpu",
        "val_files": _listed(config.data.val_files),
    }


def _every(steps: int) -> str:
    return f"every {steps}" if steps else "never"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(not installed)"


def _listed(files: Any) -> list[str]:
    return list(files) if isinstance(files, list | ListConfig) else [files]


def _model(config: DictConfig) -> str:
    path = Path(config.actor_rollout_ref.model.path).expanduser()
    parts = []
    if (path / "config.json").is_file():
        parts.append(json.loads((path / "config.json").read_text(encoding="utf-8")).get("model_type", "unknown type"))
        if parameters := sum(map(_parameters, path.glob("*.safetensors"))):
            parts.append(f"{_short(parameters)} parameters")
    if config.actor_rollout_ref.model.get("lora_rank", 0):
        parts.append(f"LoRA of rank {config.actor_rollout_ref.model.lora_rank}")
    if config.actor_rollout_ref.actor.get("freeze_vision_tower", False):
        parts.append("vision tower frozen")
    return f"{shown_path(path) if path.exists() else path}: {', '.join(parts)}" if parts else str(path)


def _parameters(path: Path) -> int:
    """Number of parameters in a safetensors file, from the table at its beginning."""
    try:
        with path.open("rb") as file:
            (size,) = struct.unpack("<Q", file.read(8))
            table = json.loads(file.read(size))
    except (OSError, ValueError, struct.error):  # verl will say what is wrong with it
        return 0
    total = 0
    for name, tensor in table.items():
        if name != "__metadata__":
            count = 1
            for length in tensor["shape"]:
                count *= length
            total += count
    return total


def _short(count: int) -> str:
    for unit, size in (("B", 1e9), ("M", 1e6)):
        if count >= size / 10:
            return f"{count / size:.2f} {unit}"
    return str(count)


def _data(config: DictConfig) -> str:
    """Numbers of videos, data sources and the range of the labels."""
    import pyarrow.parquet

    counts, sources, labels = [], set(), []
    for files in (config.data.train_files, config.data.val_files):
        tables = [pyarrow.parquet.read_table(path, columns=["data_source", "reward_model"]) for path in _listed(files)]
        counts.append(sum(table.num_rows for table in tables))
        for table in tables:
            sources |= set(table["data_source"].to_pylist())
            labels += [row.get("ground_truth") for row in table["reward_model"].to_pylist() if row]
    mos = [label for label in labels if isinstance(label, int | float) and label == label]
    span = f"; MOS {min(mos):.2f}-{max(mos):.2f}" if mos else ""
    return f"{counts[0]} training, {counts[1]} validation videos; {', '.join(sorted(map(str, sources)))}{span}"


def _device(config: DictConfig) -> str:
    memory = f"{psutil.virtual_memory().total / GIB:.0f} GiB of memory"
    nodes, per_node = config.trainer.nnodes, config.trainer.n_gpus_per_node
    if config.trainer.device == "cpu":
        text = f"{len(os.sched_getaffinity(0))} CPU cores, {memory}"
        return text if nodes * per_node == 1 else f"{text}, {nodes * per_node} worker processes"
    where = f"{nodes} nodes x " if nodes > 1 else ""
    return f"{where}{per_node} x {_gpu_name()}, {memory}"


def _gpu_name() -> str:
    """Name and memory of this node's first GPU."""
    command = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        text = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return "GPU"
    return text.splitlines()[0].strip() if text.strip() else "GPU"


def shown_path(path: Path | str) -> str:
    """A path as a command in the current folder takes it: relative where it is inside this folder."""
    path = Path(path)
    if path.is_absolute() and path.is_relative_to(Path.cwd()):
        return str(path.relative_to(Path.cwd()))
    return str(path)
