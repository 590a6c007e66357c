"""Which checkpoints are kept."""

import pytest
from helpers.checkpoints import cut_off, save
from omegaconf import OmegaConf

from vqathinker_verl.plugin.checkpoints import TRACKER, prune

NAMES = ("model", "optimizer", "extra")


@pytest.fixture
def config(tmp_path):
    return OmegaConf.create(
        {
            "trainer": {"resume_mode": "auto", "default_local_dir": str(tmp_path)},
            "actor_rollout_ref": {"actor": {"checkpoint": {"load_contents": ["model", "optimizer", "extra"]}}},
        }
    )


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
