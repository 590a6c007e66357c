"""From which checkpoint a start goes on, when files were cut off, emptied or removed."""

import random
import subprocess

import pytest
import torch
from omegaconf import OmegaConf

from vqathinker_verl.config.compose import InputError
from vqathinker_verl.plugin.checkpoints import TRACKER, prune, resume_overrides

CONTENTS = ("model", "optim", "extra_state")


@pytest.fixture
def config(tmp_path):
    return OmegaConf.create(
        {
            "trainer": {"resume_mode": "auto", "default_local_dir": str(tmp_path)},
            "actor_rollout_ref": {"actor": {"checkpoint": {"load_contents": ["model", "optimizer", "extra"]}}},
        }
    )


def save(folder, step, world_size=2, state=None):
    """What verl writes: files of every rank, the data loader's state, and last the tracker."""
    actor = folder / f"global_step_{step}" / "actor"
    actor.mkdir(parents=True)
    for content in CONTENTS:
        for rank in range(world_size):
            torch.save(state or {"step": step}, actor / f"{content}_world_size_{world_size}_rank_{rank}.pt")
    torch.save({}, actor.parent / "data.pt")
    (folder / TRACKER).write_text(str(step))
    return actor


def cut_off(path):
    path.write_bytes(path.read_bytes()[:-40])


def test_verl_goes_on_by_itself_from_a_whole_one(config, tmp_path, capsys):
    assert resume_overrides(config) == []  # nothing saved yet
    save(tmp_path, 20)
    save(tmp_path, 40)
    assert resume_overrides(config) == []
    assert capsys.readouterr().err == ""


NAMES = ("model", "optimizer", "extra")


class TestPrune:
    def left(self, folder):
        return sorted(int(path.name.removeprefix("global_step_")) for path in folder.glob("global_step_*"))

    def test_the_newest_are_kept_whoever_saved_them(self, tmp_path):
        for step in (20, 100, 40, 60, 80):
            save(tmp_path, step)
        (tmp_path / TRACKER).write_text("100")
        assert prune(tmp_path, 2, NAMES) == [20, 40, 60]
        assert self.left(tmp_path) == [80, 100]

    def test_later_ones_are_left(self, tmp_path):
        for step in (20, 40, 60, 80):
            save(tmp_path, step)
        (tmp_path / TRACKER).write_text("40")  # the start went on from 20, and those above could not be read
        assert prune(tmp_path, 1, NAMES) == [20]
        assert self.left(tmp_path) == [40, 60, 80]

    def test_one_that_was_cut_off_does_not_count(self, tmp_path):
        for step in (20, 40, 60, 80):
            actor = save(tmp_path, step)
            if step in (40, 60):
                cut_off(actor / "model_world_size_2_rank_0.pt")
        assert prune(tmp_path, 2, NAMES) == []
        assert prune(tmp_path, 1, NAMES) == [20, 40, 60]

    @pytest.mark.parametrize("keep", [None, 0, -1])
    def test_no_limit_keeps_all(self, tmp_path, keep):
        for step in (20, 40):
            save(tmp_path, step)
        assert prune(tmp_path, keep, NAMES) == []

    @pytest.mark.parametrize("tracker", ["", "60"])
    def test_nothing_is_removed_where_the_last_save_is_not_known(self, tmp_path, tracker):
        for step in (20, 40):
            save(tmp_path, step)
        (tmp_path / TRACKER).write_text(tracker)
        assert prune(tmp_path, 1, NAMES) == []
        assert self.left(tmp_path) == [20, 40]


def test_verl_prunes_after_a_save(config, tmp_path):
    from verl.trainer.ppo.checkpoint_callback import build_checkpoint_callback

    name = "vqathinker_verl.plugin.checkpoint_callback.PruneCheckpoints"
    config.trainer.update({"checkpoint_callback_class": name, "max_actor_ckpt_to_keep": 1})
    for step in (20, 40):
        save(tmp_path, step)
    build_checkpoint_callback(config).on_save(
        trainer=None, global_step=40, checkpoint_dir=f"{tmp_path}/global_step_40", async_save=False
    )
    assert [path.name for path in tmp_path.glob("global_step_*")] == ["global_step_40"]


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
    assert f"global_step_40 is not whole ({name} is " in said
    assert "going on from global_step_20" in said


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
    assert "global_step_40 is not there" in capsys.readouterr().err


def test_without_any_whole_one_the_start_is_refused(config, tmp_path):
    actor = save(tmp_path, 20)
    cut_off(actor / "model_world_size_2_rank_0.pt")
    with pytest.raises(InputError, match=r"global_step_20 is not whole .* choose another OUTPUT_DIR"):
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
