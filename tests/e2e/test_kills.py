"""kill -9 of one process of a run, at a random moment: the run goes on with the fault counted, or stops and says so.

Every start goes on from the checkpoints of the ones before, so what a kill leaves behind is tried too. One round a
process; VQATHINKER_FAULT_ROUNDS sets how many, and VQATHINKER_FAULT_SEED the moments.
"""

import math
import os
import random
import signal
import time

import numpy as np
import psutil
import pytest
from e2e_runs import START_SECONDS, read_jsonl, scored_again, start_recipe

from vqathinker_verl.verl_integration.launch import orphaned_shared_memory

pytestmark = [pytest.mark.e2e, pytest.mark.soak]

ROUNDS = int(os.environ.get("VQATHINKER_FAULT_ROUNDS", "1"))
SEED = int(os.environ.get("VQATHINKER_FAULT_SEED", "0"))
STOP_SECONDS = 60  # from the kill to the end of the run
GOES_ON_STEPS = 3  # taken after the kill, by a run that lives on
PROCESSES = {
    "vLLM server": "ray::vLLMHttpServer",
    "vLLM engine": "VLLM::EngineCore",
    "vLLM worker": "VLLM::Worker",
    "FSDP worker": "ray::WorkerDict",
    "agent loop worker": "ray::VideoQualityAgentLoopWorker",
    "reward worker": "ray::RewardLoopWorker",
    "frame cache": "ray::NodeFrames",
    "trainer": "ray::TaskRunner",
    "driver": "verl.trainer.main_ppo",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("kills")


def saved_step(folder) -> int:
    tracker = folder / "checkpoints" / "latest_checkpointed_iteration.txt"
    return int(tracker.read_text()) if tracker.exists() else 0


def last_rollouts(folder) -> int:
    return max((int(path.stem) for path in (folder / "rollouts").glob("*.jsonl")), default=0)


def processes_named(run, name: str) -> list[psutil.Process]:
    found = []
    for process in run.marked_processes():
        try:
            if name in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.mark.parametrize("round_number", range(ROUNDS))
@pytest.mark.parametrize("killed", PROCESSES)
def test_a_killed_process_loses_no_more_than_it_says(demo, folder, killed, round_number):
    moment = random.Random(f"{SEED} {killed} {round_number}").uniform(0, 20)
    before, rollouts_before = saved_step(folder), last_rollouts(folder)
    started = time.time()
    run = start_recipe(
        demo,
        folder,
        "actor_rollout_ref.rollout.n=4",
        "data.train_batch_size=8",
        "actor_rollout_ref.actor.ppo_mini_batch_size=8",
        "trainer.save_freq=1",
        "trainer.val_before_train=false",
        "trainer.test_freq=-1",
        "vqathinker.watchdog.phase_seconds=50",
        "vqathinker.watchdog.sync_seconds=30",
        TOTAL_STEPS="100000",
    )
    first_step = folder / "rollouts" / f"{before + 1}.jsonl"
    again_from = first_step.stat().st_mtime if first_step.exists() else 0.0
    run.wait_until(lambda: first_step.exists() and first_step.stat().st_mtime > again_from, START_SECONDS)
    time.sleep(moment)
    targets = processes_named(run, PROCESSES[killed])
    assert targets, (
        f"no process {PROCESSES[killed]} among {[' '.join(p.cmdline())[:60] for p in run.marked_processes()]}"
    )
    step_then = last_rollouts(folder)
    targets[0].send_signal(signal.SIGKILL)
    killed_at = time.monotonic()
    while run.process.poll() is None and last_rollouts(folder) < step_then + GOES_ON_STEPS:
        if time.monotonic() - killed_at > STOP_SECONDS and last_rollouts(folder) <= step_then + 1:
            run.kill_everything()
            pytest.fail(f"neither stopped nor went on within {STOP_SECONDS} s:\n{run.text()[-2000:]}")
        time.sleep(0.2)
    seconds = time.monotonic() - killed_at
    if run.process.poll() is None:
        outcome = "went on"
        run.process.send_signal(signal.SIGTERM)
        run.wait(60)
    else:
        outcome = f"stopped with {run.process.returncode}"
        assert run.process.returncode != 0
        assert seconds < STOP_SECONDS
        assert "vqathinker: the run stopped with exit code" in run.text()[-4000:]
    print(
        f"{killed}, {moment:.1f} s after a step: {outcome} after {seconds:.0f} s; {run.text().splitlines()[-2][:200]}"
    )

    assert run.marked_processes() == []
    assert orphaned_shared_memory(since=started) == []
    for step in range(max(1, rollouts_before), last_rollouts(folder) + 1):
        lines = read_jsonl(folder / "rollouts" / f"{step}.jsonl")
        rewards = scored_again(lines)
        np.testing.assert_allclose(rewards.total, [line["total"] for line in lines], atol=1e-6)
        assert all(math.isfinite(line["total"]) for line in lines)
