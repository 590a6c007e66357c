"""What this machine has: GPUs, CPUs, shared memory, and what a run of verl 0.9.1 needs of them."""

import importlib.metadata
import os
import shutil
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from omegaconf import DictConfig

# verl/single_controller/ray/base.py reserves three logical CPUs per GPU; TransferQueue's controller takes one, and each
# of its storage units another. Without them Ray waits without a message, and our watchdog has not started yet.
CPUS_PER_GPU, CONTROLLER_CPUS, STORAGE_UNITS = 3, 1, 8
# Ring buffers of vLLM's multiprocess executor (v1/executor/multiproc_executor.py), per server.
SHARED_GIB_PER_SERVER = 0.4
SHARED_MEMORY = "/dev/shm"


def listed_gpus() -> list[str]:
    """Return the lines of `nvidia-smi --list-gpus`: one per GPU, and below it one per MIG device; none if it fails."""
    try:
        done = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.splitlines() if done.returncode == 0 else []


def has_mig() -> bool:
    """Return whether a GPU of this machine is divided into MIG devices."""
    return any(line.strip().startswith("MIG ") for line in listed_gpus())


def visible_gpus() -> int:
    """Return how many NVIDIA GPUs a run here can use: those that answer and that CUDA_VISIBLE_DEVICES does not hide."""
    count = sum(line.startswith("GPU ") for line in listed_gpus())
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return count
    names = [name.strip() for name in chosen.split(",")]
    hidden = next((number for number, name in enumerate(names) if name in ("", "-1")), len(names))  # CUDA stops there
    return min(count, hidden)


def has_flash_attention_2() -> bool:
    """Whether flash-attn 2 is installed. verl packs sequences with its functions; flash-attn-4 has the same folder."""
    try:
        return importlib.metadata.version("flash-attn").startswith("2.")
    except importlib.metadata.PackageNotFoundError:
        return False


def cpus_of(gpus: int, storage_units: int = STORAGE_UNITS) -> int:
    """Return the logical CPUs that verl and TransferQueue reserve in Ray for GPUs and storage units."""
    return CONTROLLER_CPUS + storage_units + CPUS_PER_GPU * gpus


def needed_cpus(config: "DictConfig") -> int:
    """Logical CPUs that verl, TransferQueue and the GPUs' workers reserve in Ray on a node that does all."""
    from omegaconf import OmegaConf

    rollout = config.actor_rollout_ref.rollout
    gpus = config.trainer.n_gpus_per_node + (rollout.n_gpus_per_node if rollout.nnodes else 0)
    units = OmegaConf.select(config, "transfer_queue.backend.SimpleStorage.num_data_storage_units")
    return cpus_of(gpus, units or STORAGE_UNITS)


def cpu_fault(config: "DictConfig") -> str | None:
    """Return why the run would wait for CPUs for ever, or None. A running cluster's CPUs are not known here."""
    from omegaconf import OmegaConf

    if os.environ.get("RAY_ADDRESS") or config.trainer.nnodes > 1:
        return None
    given = OmegaConf.select(config, "ray_kwargs.ray_init.num_cpus")
    needed, present = needed_cpus(config), given or _ray_cpus()
    if present >= needed:
        return None
    return (
        f"{present} CPUs, but verl reserves {needed} in Ray and would wait for them: {CPUS_PER_GPU} per GPU, "
        f"{needed - CPUS_PER_GPU * config.trainer.n_gpus_per_node} for TransferQueue and others; they are logical: "
        f"pass ray_kwargs.ray_init.num_cpus={needed}, or fewer "
        "transfer_queue.backend.SimpleStorage.num_data_storage_units"
    )


def shared_memory_fault(config: "DictConfig") -> str | None:
    """Return why vLLM's servers would end with a bus error, or None."""
    rollout = config.actor_rollout_ref.rollout
    gpus = rollout.n_gpus_per_node if rollout.nnodes else config.trainer.n_gpus_per_node
    return shared_memory_fault_of(gpus / rollout.tensor_model_parallel_size)


def shared_memory_fault_of(servers: float) -> str | None:
    """Return why this many of vLLM's servers would end with a bus error, or None."""
    needed = SHARED_GIB_PER_SERVER * servers
    try:
        free = shutil.disk_usage(SHARED_MEMORY).free / 2**30
    except OSError:
        return None  # no such file system; vLLM reports that
    if free >= needed:
        return None
    return (
        f"{SHARED_MEMORY} has {free:.2f} GiB free, vLLM's servers need {needed:.1f}; start the container with "
        f"--shm-size=16g (Docker's default is 64 MB), or: mount -o remount,size=16g {SHARED_MEMORY}"
    )


def _ray_cpus() -> int:
    """The number that Ray will count: inside a container its quota."""
    from ray._private.utils import get_num_cpus

    return int(get_num_cpus())
