import os
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf

from vqathinker_verl.runner import machine

TWO = "GPU 0: NVIDIA H100 (UUID: GPU-a)\nGPU 1: NVIDIA H100 (UUID: GPU-b)"
MIG = TWO + "\n  MIG 3g.40gb Device 0: (UUID: MIG-x)\n  MIG 3g.40gb Device 1: (UUID: MIG-y)"


@pytest.fixture
def listing(tmp_path, monkeypatch):
    def answer(text, code=0):
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\nexit {code}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return answer


@pytest.mark.parametrize(
    ("text", "chosen", "count"),
    [
        (TWO, None, 2),
        (MIG, None, 2),  # MIG's own lines are no GPUs
        (TWO, "0", 1),
        (TWO, "GPU-b", 1),
        (TWO, "0,1,2,3", 2),  # more than there are
        (TWO, "1,-1,0", 1),  # CUDA stops at the first that does not exist
        (TWO, "", 0),
        (TWO, "-1", 0),
    ],
)
def test_gpus_that_a_run_can_use(listing, monkeypatch, text, chosen, count):
    listing(text)
    if chosen is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    assert machine.visible_gpus() == count


def test_a_broken_driver_has_no_gpus(listing, monkeypatch):
    listing("NVIDIA-SMI has failed", code=9)
    assert machine.visible_gpus() == 0
    monkeypatch.setenv("PATH", "")
    assert machine.visible_gpus() == 0


@pytest.mark.parametrize(("version", "packs"), [("2.8.3", True), ("4.0.0b36", False), (None, False)])
def test_only_version_2_of_flash_attn_packs(monkeypatch, version, packs):
    def installed(name):
        assert name == "flash-attn"  # flash-attn-4 is another distribution with the same folder
        if version is None:
            raise machine.importlib.metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(machine.importlib.metadata, "version", installed)
    assert machine.has_flash_attention_2() is packs


def config(gpus, *, num_cpus=None, units=8, rollout_gpus=0):
    return OmegaConf.create(
        {
            "actor_rollout_ref": {
                "rollout": {
                    "nnodes": int(rollout_gpus > 0),
                    "n_gpus_per_node": rollout_gpus or 8,
                    "tensor_model_parallel_size": 1,
                }
            },
            "trainer": {"nnodes": 1, "n_gpus_per_node": gpus},
            "ray_kwargs": {"ray_init": {"num_cpus": num_cpus}},
            "transfer_queue": {"backend": {"SimpleStorage": {"num_data_storage_units": units}}},
        }
    )


class TestCpus:
    """1 for TransferQueue's controller, 8 for its storage, 3 per GPU."""

    @pytest.mark.parametrize(("gpus", "needed"), [(1, 12), (8, 33)])
    def test_by_hand(self, gpus, needed):
        assert machine.needed_cpus(config(gpus)) == needed
        assert machine.cpu_fault(config(gpus, num_cpus=needed)) is None
        fault = machine.cpu_fault(config(gpus, num_cpus=needed - 1))
        assert f"verl reserves {needed}" in fault
        assert f"ray_kwargs.ray_init.num_cpus={needed}" in fault

    def test_gpus_that_only_generate_count(self):
        assert machine.needed_cpus(config(4, rollout_gpus=4)) == 33

    def test_what_ray_counts_where_nothing_is_given(self, monkeypatch):
        monkeypatch.setattr(machine, "_ray_cpus", lambda: 4)
        assert "4 CPUs" in machine.cpu_fault(config(1))
        assert machine.cpu_fault(config(1, units=0, num_cpus=None)) is not None

    def test_a_running_cluster_is_not_judged(self, monkeypatch):
        monkeypatch.setenv("RAY_ADDRESS", "head:6379")
        assert machine.cpu_fault(config(8, num_cpus=1)) is None

    def test_rays_own_count(self):
        assert machine._ray_cpus() >= 1


@pytest.mark.parametrize(("free_gib", "fits"), [(0.0625, False), (3.1, False), (3.3, True)])
def test_shared_memory_of_eight_servers(monkeypatch, free_gib, fits):
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: SimpleNamespace(free=free_gib * 2**30))
    fault = machine.shared_memory_fault(config(8))
    assert (fault is None) is fits
    if not fits:
        assert "--shm-size=16g" in fault
