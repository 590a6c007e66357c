"""The disk fills up during a checkpoint, and the last checkpoint is cut off: no complete checkpoint is lost.

Every round is one start of the same run. It saves twice, and the disk is full in its third save; then the second
checkpoint is cut off, there is room again, and the next start goes on from the first one. The last start has room to
its end. VQATHINKER_FAULT_ROUNDS sets how many rounds, and VQATHINKER_FAULT_SEED at which bytes.
"""

import os
import random
import shutil
import subprocess
import time
from collections import Counter
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.runs import START_SECONDS, read_jsonl, scored_again, start_recipe
from omegaconf import OmegaConf

from vqathinker_verl.plugin.checkpoints import TRACKER, saved_step
from vqathinker_verl.runner.resume import resume_overrides
from vqathinker_verl.runner.shared_memory import orphaned_shared_memory

pytestmark = [pytest.mark.e2e, pytest.mark.soak]

SEED = int(os.environ.get("VQATHINKER_FAULT_SEED", "0"))
ROUNDS = int(os.environ.get("VQATHINKER_FAULT_ROUNDS", "1"))
SAVE_EVERY = 2
STEPS = SAVE_EVERY * (ROUNDS + 2)
STOP_SECONDS = 60
OVERRIDES = [
    "actor_rollout_ref.rollout.n=4",
    "data.train_batch_size=8",
    "actor_rollout_ref.actor.ppo_mini_batch_size=8",
    f"trainer.save_freq={SAVE_EVERY}",
    "trainer.max_actor_ckpt_to_keep=null",
    "trainer.val_before_train=false",
    "trainer.test_freq=-1",
    "vqathinker.sampling_seed=0",
]


def mount(folder, size_bytes, *options):
    flags = ",".join([f"size={size_bytes}", *options])
    return subprocess.run(["mount", "-t", "tmpfs", "-o", flags, "tmpfs", folder], capture_output=True, check=False)


def files_of(checkpoint):
    return sorted(path for path in checkpoint.rglob("*.pt"))


def cut_off(checkpoint, rng):
    """One of its files loses its end, at a random byte; says which."""
    path = rng.choice(files_of(checkpoint))
    path.write_bytes(path.read_bytes()[: rng.randrange(path.stat().st_size)])
    return path.relative_to(checkpoint).as_posix()


@pytest.fixture(scope="module")
def run(demo, tmp_path_factory):
    output_dir = tmp_path_factory.mktemp("checkpoints")
    disk = output_dir / "checkpoints"
    disk.mkdir()
    refused = mount(disk, 2**30)
    if refused.returncode:
        pytest.skip(f"no small disk can be mounted here: {refused.stderr.decode().strip()}")
    rng = random.Random(SEED)
    try:
        rounds = [one_round(demo, output_dir, disk, number, rng) for number in range(ROUNDS)]
        starts = [*rounds, one_start(demo, output_dir, disk, SAVE_EVERY * ROUNDS)]
        yield SimpleNamespace(rounds=rounds, starts=starts, folder=output_dir, disk=disk)
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def one_round(demo, output_dir, disk, number, rng):
    """A start whose third save meets a full disk; afterwards the checkpoint of its second one is cut off."""
    first_save = SAVE_EVERY * (number + 1)
    tracker = disk / TRACKER
    before = tracker.stat().st_mtime_ns if tracker.exists() else 0  # the round before has saved this step too

    def fill(start):
        start.wait_until(lambda: tracker.exists() and tracker.stat().st_mtime_ns > before, START_SECONDS)
        start.wait_until(lambda: saved_step(disk) == first_save, 1)  # the file is written in two strokes
        size = sum(path.stat().st_blocks * 512 for path in (disk / f"global_step_{first_save}").rglob("*"))
        room = int((first_save / SAVE_EVERY + 1 + rng.uniform(0.02, 0.98)) * size)
        assert mount(disk, room, "remount").returncode == 0
        print(f"a checkpoint has {size} bytes, the disk {room}")

    ended = one_start(demo, output_dir, disk, SAVE_EVERY * number, fill)
    ended.full_at = first_save + 2 * SAVE_EVERY
    ended.seconds = ended.at - (output_dir / "rollouts" / f"{ended.full_at}.jsonl").stat().st_mtime
    ended.damaged = cut_off(disk / f"global_step_{ended.saved}", rng)
    assert mount(disk, 2**30, "remount").returncode == 0
    return ended


def one_start(demo, output_dir, disk, going_on_from, meanwhile=lambda start: None):
    """What one start of the run said, did and left behind."""
    started = time.time()
    start = start_recipe(demo, output_dir, *OVERRIDES, TOTAL_STEPS=str(STEPS))
    said_before = len(start.text())
    meanwhile(start)
    code = start.wait(START_SECONDS)
    taken = sorted(int(path.stem) for path in (output_dir / "rollouts").glob("*.jsonl"))
    return SimpleNamespace(
        going_on_from=going_on_from,
        code=code,
        at=time.time(),
        text=start.text()[said_before:],
        saved=saved_step(disk),
        left_behind=(start.marked_processes(), orphaned_shared_memory(since=started)),
        rollouts={
            step: read_jsonl(output_dir / "rollouts" / f"{step}.jsonl") for step in taken if step > going_on_from
        },
    )


def test_a_full_disk_stops_the_run_with_its_reason(run):
    for full in run.rounds:
        assert full.code != 0
        assert full.seconds < STOP_SECONDS
        end = [line for line in full.text.splitlines() if line.startswith("vqathinker: the run stopped with exit code")]
        print(f"stopped after {full.seconds:.0f} s: {end}")
        assert len(end) == 1
        assert "Reason: no space left on the disk of " in end[0]
        assert full.left_behind == ([], [])


def test_the_save_that_failed_does_not_count(run):
    for full in run.rounds:
        assert full.saved == full.full_at - SAVE_EVERY


def test_the_next_start_resumes_from_the_last_complete_one(run):
    for full, again in pairwise(run.starts):
        said = [line for line in again.text.splitlines() if "is incomplete" in line]
        print(said)
        assert len(said) == 1
        assert f"global_step_{full.saved} is incomplete ({full.damaged} is " in said[0]
        assert f"resuming from global_step_{again.going_on_from}" in said[0]
    trained = [
        [line["step"] for line in read_jsonl(path) if "actor/lr" in line["data"]]
        for path in sorted((run.folder / "metrics").glob("*.jsonl"))
    ]
    assert [steps[0] for steps in trained] == [start.going_on_from + 1 for start in run.starts]


def test_the_last_start_ends_well(run):
    last = run.starts[-1]
    assert last.code == 0, last.text[-3000:]
    assert last.saved == STEPS
    assert last.left_behind == ([], [])


def test_its_steps_are_those_that_were_lost(run):
    """Videos, perturbations, and nearly all seeded responses (the last digits of logits depend on the batches)."""
    same = total = 0
    for full, again in pairwise(run.starts):
        for step in range(again.going_on_from + 1, full.full_at):
            lost, taken = full.rollouts[step], again.rollouts[step]
            shown = [{(line["video_id"], line["perturbation"]) for line in lines} for lines in (lost, taken)]
            assert shown[0] == shown[1]
            counts = [Counter((line["video_id"], line["response"]) for line in lines) for lines in (lost, taken)]
            same, total = same + (counts[0] & counts[1]).total(), total + len(lost)
    print(f"{same} of {total} responses as before")
    assert same > 0.8 * total


def test_rewards_are_those_of_the_texts_in_all(run):
    for start in run.starts:
        for lines in start.rollouts.values():
            rewards = scored_again(lines)
            np.testing.assert_allclose(rewards.total, [line["total"] for line in lines], atol=1e-6)


def test_a_real_checkpoint_cut_off_anywhere_is_seen(run, tmp_path, capsys):
    """A hundred times, at random bytes of random files; what is found is named, and the one before is taken."""
    rng = random.Random(SEED)
    config = OmegaConf.create(
        {
            "trainer": {"resume_mode": "auto", "default_local_dir": str(tmp_path)},
            "actor_rollout_ref": {"actor": {"checkpoint": {"load_contents": ["model", "optimizer", "extra"]}}},
        }
    )
    before, last = (f"global_step_{step}" for step in (STEPS - SAVE_EVERY, STEPS))
    shutil.copytree(run.disk / before, tmp_path / before)
    (tmp_path / TRACKER).write_text(str(STEPS))
    for _ in range(100):
        shutil.rmtree(tmp_path / last, ignore_errors=True)
        shutil.copytree(run.disk / last, tmp_path / last)
        assert resume_overrides(config) == []
        name = cut_off(tmp_path / last, rng)
        assert resume_overrides(config)[1] == f"trainer.resume_from_path={tmp_path / before}"
        assert f"{last} is incomplete ({name} is " in capsys.readouterr().err
