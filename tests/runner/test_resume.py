"""From which checkpoint a start resumes when files were cut off, emptied or removed."""

import random
import subprocess

import pytest
import torch
from helpers.checkpoints import CONTENTS, cut_off, save
from omegaconf import OmegaConf

from vqathinker_verl.config.compose import InputError
from vqathinker_verl.plugin.checkpoints import TRACKER
from vqathinker_verl.runner.resume import resume_overrides


@pytest.fixture
def config(tmp_path):
    return OmegaConf.create(
        {
            "trainer": {"resume_mode": "auto", "default_local_dir": str(tmp_path)},
            "actor_rollout_ref": {"actor": {"checkpoint": {"load_contents": ["model", "optimizer", "extra"]}}},
        }
    )


def test_verl_resumes_by_itself_from_a_complete_one(config, tmp_path, capsys):
    assert resume_overrides(config) == []  # nothing saved yet
    save(tmp_path, 20)
    save(tmp_path, 40)
    assert resume_overrides(config) == []
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", [f"actor/{content}_world_size_2_rank_1.pt" for content in CONTENTS] + ["data.pt"])
@pytest.mark.parametrize("damage", [cut_off, lambda path: path.unlink(), lambda path: path.write_bytes(b"\0" * 4096)])
def test_a_damaged_one_is_named_and_the_one_before_taken(config, tmp_path, capsys, name, damage):
    save(tmp_path, 20)
    save(tmp_path, 40)
    damage(tmp_path / "global_step_40" / name)
    assert resume_overrides(config) == [
        "trainer.resume_mode=resume_path",
        f"trainer.resume_from_path={tmp_path}/global_step_20",
    ]
    said = capsys.readouterr().err
    assert f"global_step_40 is incomplete ({name} is " in said
    assert "resuming from global_step_20" in said


def test_a_save_that_was_interrupted_is_not_taken(config, tmp_path):
    save(tmp_path, 20)
    later = save(tmp_path, 40)
    (tmp_path / TRACKER).write_text("20")  # verl writes it last
    (later / "model_world_size_2_rank_0.pt").unlink()
    assert resume_overrides(config) == []


@pytest.fixture
def small_disk(tmp_path):
    """Makes tmp_path / "disk" a disk of so many bytes; what was on it is gone."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = []

    def mount(size):
        if mounted:
            subprocess.run(["umount", mounted.pop()], check=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", disk]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"no small disk can be mounted here: {done.stderr.strip()}")
        mounted.append(disk)
        return disk

    yield mount
    for disk in mounted:
        subprocess.run(["umount", disk], check=True)


def test_a_save_that_filled_the_disk_is_not_taken(config, small_disk):
    """Ten times, at a random byte of the second save; also where the tracker had been written before its data."""
    rng = random.Random(0)
    state = {"weights": torch.arange(50_000)}  # 400 kB a file, two ranks of three contents
    for _ in range(10):
        disk = small_disk(int(rng.uniform(1.05, 1.95) * 6 * 410_000))
        config.trainer.default_local_dir = str(disk)
        save(disk, 20, state=state)
        with pytest.raises((RuntimeError, OSError)):
            save(disk, 40, state=state)
        assert resume_overrides(config) == []
        (disk / TRACKER).write_text("40")
        assert resume_overrides(config)[1].endswith("global_step_20")


def test_an_empty_tracker_does_not_lose_the_checkpoints(config, tmp_path, capsys):
    save(tmp_path, 20)
    (tmp_path / TRACKER).write_text("")
    assert resume_overrides(config)[1].endswith("global_step_20")
    assert "names no step" in capsys.readouterr().err


def test_a_removed_folder_does_not_start_from_scratch_in_silence(config, tmp_path, capsys):
    save(tmp_path, 20)
    (tmp_path / TRACKER).write_text("40")
    assert resume_overrides(config)[1].endswith("global_step_20")
    assert "global_step_40 is missing" in capsys.readouterr().err


def test_without_a_complete_one_the_start_is_refused(config, tmp_path):
    actor = save(tmp_path, 20)
    cut_off(actor / "model_world_size_2_rank_0.pt")
    with pytest.raises(InputError, match=r"global_step_20 is incomplete .* choose another OUTPUT_DIR"):
        resume_overrides(config)


def test_a_first_save_that_was_interrupted_starts_anew(config, tmp_path):
    actor = save(tmp_path, 20)
    (tmp_path / TRACKER).unlink()
    cut_off(actor / "optim_world_size_2_rank_1.pt")
    assert resume_overrides(config) == []


def test_what_the_user_asks_for_stays(config, tmp_path):
    cut_off(save(tmp_path, 20) / "model_world_size_2_rank_0.pt")
    config.trainer.resume_mode = "disable"
    assert resume_overrides(config) == []
