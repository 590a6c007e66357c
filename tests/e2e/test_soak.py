"""Three hundred steps: memory of every process, threads, open files and shared memory stay flat.

VQATHINKER_SOAK_STEPS sets another number.
"""

import os
import statistics
import threading

import pytest
from helpers.runs import START_SECONDS, read_jsonl, start_recipe

from vqathinker_verl.runner.shared_memory import orphaned_shared_memory

pytestmark = [pytest.mark.e2e, pytest.mark.soak]

STEPS = int(os.environ.get("VQATHINKER_SOAK_STEPS", "300"))
SETTLED, WINDOW = STEPS // 8, STEPS // 5  # compared are WINDOW steps after SETTLED with the last WINDOW
VIDEOS_A_STEP, GROUP_SIZE = 4, 2
CACHE_BYTES = 1_000_000  # about eight of the 24 videos: frames come and go
# Python and its allocators settle for long; a leak of 100 kB a step would be 25 MB over the run.
GROWTH_SHARE, GROWTH_BYTES = 1.05, 20 * 2**20


def shared_segments(run):
    """Inodes of the files of /dev/shm that processes of the run map."""
    inodes = set()
    for process in run.marked_processes():
        try:
            maps = open(f"/proc/{process.pid}/maps").read()
        except OSError:
            continue
        inodes |= {line.split()[4] for line in maps.splitlines() if "/dev/shm/" in line}
    return len(inodes)


def test_nothing_grows(demo, tmp_path):
    run = start_recipe(
        demo,
        tmp_path,
        f"actor_rollout_ref.rollout.n={GROUP_SIZE}",
        f"data.train_batch_size={VIDEOS_A_STEP}",
        f"actor_rollout_ref.actor.ppo_mini_batch_size={VIDEOS_A_STEP}",
        *(
            f"actor_rollout_ref.{name}_micro_batch_size_per_gpu={VIDEOS_A_STEP * GROUP_SIZE}"
            for name in ("actor.ppo", "rollout.log_prob", "ref.log_prob")
        ),
        f"data.frames.cache_bytes={CACHE_BYTES}",
        "trainer.val_before_train=false",
        "trainer.test_freq=-1",
        "trainer.save_freq=-1",
        TOTAL_STEPS=str(STEPS),
    )
    segments = []  # (step, count)
    stopped = threading.Event()

    def watch():
        while not stopped.wait(10):
            steps = [int(path.stem) for path in (tmp_path / "rollouts").glob("*.jsonl")]
            if steps and run.process.poll() is None:
                segments.append((max(steps), shared_segments(run)))

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        assert run.wait(START_SECONDS + STEPS * 15) == 0
    finally:
        stopped.set()
        watching.join()

    ended = {step: (tmp_path / "rollouts" / f"{step}.jsonl").stat().st_mtime for step in range(1, STEPS + 1)}
    samples = read_jsonl(tmp_path / "memory.jsonl")
    early, late = (SETTLED, SETTLED + WINDOW), (STEPS - WINDOW, STEPS)

    def median(value, window):
        return statistics.median(value(s) for s in samples if ended[window[0]] <= s["time"] <= ended[window[1]])

    print(f"{(ended[STEPS] - ended[1]) / (STEPS - 1):.1f} s a step; steps {early} against {late}")
    names = {name for sample in samples for name in sample["bytes_of"]} - {"ray::IDLE"}  # Ray starts and ends these
    grown = {}
    for name in sorted(names):
        sizes = [median(lambda sample, name=name: sample["bytes_of"].get(name, 0), window) for window in (early, late)]
        print(f"{name}: {sizes[0] / 2**20:.0f} MiB, {sizes[1] / 2**20:.0f} MiB")
        if sizes[1] > GROWTH_SHARE * sizes[0] + GROWTH_BYTES:
            grown[name] = sizes
    assert grown == {}
    counts = {}
    for name in ("bytes", "processes", "threads", "files"):
        counts[name] = [median(lambda sample, name=name: sample[name], window) for window in (early, late)]
    counts["shared segments"] = [
        statistics.median(count for step, count in segments if first <= step <= last) for first, last in (early, late)
    ]
    print(counts)
    assert counts["bytes"][1] <= 1.05 * counts["bytes"][0]
    assert counts["processes"][1] <= counts["processes"][0]
    assert counts["threads"][1] <= 1.05 * counts["threads"][0]
    assert counts["files"][1] <= 1.05 * counts["files"][0]
    assert counts["shared segments"][1] <= counts["shared segments"][0]

    metrics = {line["step"]: line for line in read_jsonl(tmp_path / "metrics.jsonl")}
    kept = [metrics[step]["frames/bytes"] for step in range(1, STEPS + 1)]
    print(f"frames kept: {min(kept):.0f} to {max(kept):.0f} bytes; {metrics[STEPS]['frames/decoded']:.0f} decoded")
    assert 0 < max(kept) <= CACHE_BYTES
    assert metrics[STEPS]["frames/decoded"] > STEPS * VIDEOS_A_STEP / 2  # the bound was felt
    assert {metrics[step]["features/prompts"] for step in range(1, STEPS + 1)} == {VIDEOS_A_STEP}
    assert all(metrics[step]["rollout/total_failed_responses"] == 0 for step in range(1, STEPS + 1))
    assert run.marked_processes() == []
    assert orphaned_shared_memory(since=ended[1] - START_SECONDS) == []
