"""kill -9 of one process of a run, at a random moment: the run continues and counts it, or stops and reports it.

A start takes minutes, so each one gives all it can: first a process of every kind that a run outlives is killed, one
after the other, then one of a kind that ends it. Every start goes on from the checkpoints of the ones before, so what a
kill leaves behind is tried too. VQATHINKER_FAULT_ROUNDS sets how often each kind that ends a run is killed, and
VQATHINKER_FAULT_SEED the moments; VQATHINKER_FAULT_OUTLIVED how many of the first kinds each start takes, if not all.
"""

import math
import os
import random
import signal
import time

import numpy as np
import psutil
import pytest
from helpers.runs import START_SECONDS, read_jsonl, scored_again, start_recipe

from vqathinker_verl.runner.shared_memory import orphaned_shared_memory

pytestmark = [pytest.mark.e2e, pytest.mark.soak]

ROUNDS = int(os.environ.get("VQATHINKER_FAULT_ROUNDS", "1"))
SEED = int(os.environ.get("VQATHINKER_FAULT_SEED", "0"))
STOP_SECONDS = 60  # from the kill to the end of the run
GOES_ON_STEPS = 3  # taken after the kill, by a run that lives on
LONGEST_WAIT = 4.0  # between a step's end and the kill: longer than a step of these
# What is killed -> words of its command line.
OUTLIVED = {
    "video decoder": "vqathinker_verl.frames.child",
    "frame cache": "ray::FrameCacheActor",
    "idle worker of Ray": "ray::IDLE",
}
OUTLIVED_A_START = int(os.environ.get("VQATHINKER_FAULT_OUTLIVED", len(OUTLIVED)))
ENDS = {
    "vLLM server": "ray::vLLMHttpServer",
    "vLLM engine": "VLLM::EngineCore",
    "FSDP worker": "ray::WorkerDict",
    "agent loop worker": "ray::VideoQualityAgentLoopWorker",
    "load balancer": "ray::GlobalRequestLoadBalancer",
    "TransferQueue storage": "ray::SimpleStorageUnit",
    "TransferQueue controller": "ray::TransferQueueController",
    "trainer": "ray::TaskRunner",
    "driver": "verl.trainer.main_ppo",
    "raylet": "raylet/raylet",
    "Ray's control service": "gcs_server",
    "launcher": "vqathinker train",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("kills")


def saved_step(folder) -> int:
    tracker = folder / "checkpoints" / "latest_checkpointed_iteration.txt"
    return int(tracker.read_text()) if tracker.exists() else 0


def last_rollouts(folder) -> int:
    return max((int(path.stem) for path in (folder / "rollouts").glob("*.jsonl")), default=0)


def processes_named(run, words: str) -> list[psutil.Process]:
    found = []
    for process in [psutil.Process(run.process.pid), *run.marked_processes()]:
        try:
            if words in " ".join(process.cmdline()[:4]):
                found.append(process)
        except psutil.Error:
            continue
    return found


def kill_one(run, folder, name: str, words: str, rng: random.Random) -> str | None:
    """Kill one process of this kind at a random moment; returns how the run ended, or None for one that went on."""
    step = last_rollouts(folder)
    run.wait_until(lambda: last_rollouts(folder) > step, 120)
    wait = rng.uniform(0, LONGEST_WAIT)
    time.sleep(wait)
    targets = processes_named(run, words)
    alive = [" ".join(process.cmdline())[:60] for process in run.marked_processes()]
    assert targets, f"no process {words} among {alive}"
    step_then = last_rollouts(folder)
    rng.choice(targets).send_signal(signal.SIGKILL)
    killed_at = time.monotonic()
    while run.process.poll() is None and last_rollouts(folder) < step_then + GOES_ON_STEPS:
        if time.monotonic() - killed_at > STOP_SECONDS and last_rollouts(folder) <= step_then + 1:
            run.kill_everything()
            pytest.fail(f"{name}: neither stopped nor went on within {STOP_SECONDS} s:\n{run.text()[-2000:]}")
        time.sleep(0.2)
    seconds = time.monotonic() - killed_at
    code = run.process.poll()
    outcome = "went on" if code is None else f"stopped with {code} after {seconds:.0f} s"
    print(f"{name}, {wait:.1f} s after step {step + 1}: {outcome}")
    if code is None:
        return None
    assert code != 0
    assert seconds < STOP_SECONDS
    return run.text()[-4000:]


@pytest.mark.parametrize("round_number", range(ROUNDS))
@pytest.mark.parametrize("killed", ENDS)
def test_a_killed_process_loses_no_more_than_it_says(demo, folder, killed, round_number):
    rng = random.Random(f"{SEED} {killed} {round_number}")
    before, rollouts_before = saved_step(folder), last_rollouts(folder)
    started = time.time()
    run = start_recipe(
        demo,
        folder,
        "actor_rollout_ref.rollout.n=2",
        "data.train_batch_size=4",
        "actor_rollout_ref.actor.ppo_mini_batch_size=4",
        *(
            f"actor_rollout_ref.{name}_micro_batch_size_per_gpu=8"
            for name in ("actor.ppo", "rollout.log_prob", "ref.log_prob")
        ),
        "actor_rollout_ref.rollout.val_kwargs.n=1",
        "data.frames.cache_bytes=0",  # decoders have work in every step
        "trainer.save_freq=1",
        "trainer.val_before_train=false",
        "trainer.test_freq=2",  # within GOES_ON_STEPS, so that validation meets the loss too
        "vqathinker.watchdog.phase_seconds=50",
        "vqathinker.watchdog.sync_seconds=30",
        TOTAL_STEPS="100000",
    )
    first_step = folder / "rollouts" / f"{before + 1}.jsonl"
    again_from = first_step.stat().st_mtime if first_step.exists() else 0.0
    run.wait_until(lambda: first_step.exists() and first_step.stat().st_mtime > again_from, START_SECONDS)
    # Steps after the saved one are taken again: what was there is not what this start has done.
    for path in (folder / "rollouts").glob("*.jsonl"):
        if path.stat().st_mtime < first_step.stat().st_mtime and int(path.stem) > before:
            path.unlink()
    outlived = rng.sample(list(OUTLIVED.items()), OUTLIVED_A_START)
    end = None
    for name, words in [*outlived, (killed, ENDS[killed])]:
        end = kill_one(run, folder, name, words, rng)
        if end is not None:
            break
    if end is None:
        run.process.send_signal(signal.SIGTERM)
        run.wait(60)
    elif name != "launcher":
        said = [line for line in end.splitlines() if line.startswith("vqathinker: the run stopped with exit code")]
        print(said[-1][:600] if said else end[-500:])
        assert len(said) == 1
    deadline = time.monotonic() + STOP_SECONDS  # nobody clears up after a launcher that was killed: the others see it
    while run.marked_processes() and time.monotonic() < deadline:
        time.sleep(0.5)
    assert run.marked_processes() == []
    if name != "launcher":  # else the next start removes it
        assert orphaned_shared_memory(since=started) == []
    for step in range(max(1, min(before, rollouts_before)), last_rollouts(folder) + 1):
        lines = read_jsonl(folder / "rollouts" / f"{step}.jsonl")
        rewards = scored_again(lines)
        np.testing.assert_allclose(rewards.total, [line["total"] for line in lines], atol=1e-6)
        assert all(math.isfinite(line["total"]) for line in lines)
