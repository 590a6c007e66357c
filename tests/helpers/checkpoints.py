"""Checkpoints as verl's FSDP engine writes them, and damage to them."""

import torch

from vqathinker_verl.plugin.checkpoints import TRACKER

CONTENTS = ("model", "optim", "extra_state")


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
