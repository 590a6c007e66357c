"""Real runs of the recipe: verl, Ray, vLLM and the demo, in processes of their own."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest

from vqathinker_verl.plugin.run_mark import RUN_MARK
from vqathinker_verl.rewards.batch import RewardBatch, score_batch

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "recipes" / "run_vqathinker.sh"
VQATHINKER = [sys.executable, "-m", "vqathinker_verl.cli"]
START_SECONDS = 900  # from the command to the first step, on a busy two-core machine


def prepare_demo(folder: Path) -> None:
    """The parquet files of a demo, from its labels and the videos that lie in `folder` now."""
    for split in ("train", "val"):
        command = [*VQATHINKER, "prepare", f"{folder}/labels/{split}.csv", "--video-root", f"{folder}/videos"]
        command += ["--scale", "0", "100", "--dataset", "demo", "--split", split]
        subprocess.run([*command, "--output", f"{folder}/{split}.parquet"], check=True, timeout=300)


def batch(videos: int, group_size: int) -> list[str]:
    """The overrides of a run that trains on so many videos per step, all in one update, with so many responses each."""
    return [
        f"data.train_batch_size={videos}",
        f"actor_rollout_ref.actor.ppo_mini_batch_size={videos}",
        f"actor_rollout_ref.rollout.n={group_size}",
    ]


@dataclass
class Recipe:
    """One start of the recipe; its output goes to a file, so that a test can watch it."""

    process: subprocess.Popen
    output_dir: Path
    log: Path

    def wait(self, seconds: float) -> int:
        try:
            return self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.kill_everything()
            pytest.fail(f"not finished after {seconds} s; the end of its output:\n{self.text()[-3000:]}")

    def wait_until(self, condition, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not condition():
            if self.process.poll() is not None or time.monotonic() > end:
                self.kill_everything()
                pytest.fail(f"ended or too slow; the end of its output:\n{self.text()[-3000:]}")
            time.sleep(0.2)

    def kill_everything(self) -> None:
        """SIGKILL the shell, the launcher and every process of the run: what a power cut leaves."""
        for process in [*descendants(self.process.pid), *self.marked_processes()]:
            try:
                process.send_signal(signal.SIGKILL)
            except psutil.NoSuchProcess:
                continue
        self.process.wait(timeout=30)

    def marked_processes(self) -> list[psutil.Process]:
        """What lives of this run; another one may be alive on the machine."""
        found = []
        for process in psutil.process_iter():
            try:
                environment = process.environ()
            except psutil.Error:
                continue
            if RUN_MARK in environment and environment.get("OUTPUT_DIR") == str(self.output_dir):
                found.append(process)
        return found

    def text(self) -> str:
        """What the recipe printed."""
        return self.log.read_text(errors="replace")

    def train_log(self) -> str:
        """What verl, Ray and vLLM printed, in all starts."""
        path = self.output_dir / "train.log"
        return path.read_text(errors="replace") if path.exists() else ""


def descendants(pid: int) -> list[psutil.Process]:
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def start_recipe(demo: Path, output_dir: Path, *overrides: str, recipe: Path = RECIPE, **environment: str) -> Recipe:
    """Start a recipe with the demo's files given as a user gives their own; the main one at the demo's sizes."""
    sizes = ["experiment=demo"] if recipe == RECIPE else []
    output_dir.mkdir(parents=True, exist_ok=True)
    log = output_dir / "recipe.out"
    with log.open("ab") as file:
        process = subprocess.Popen(
            ["bash", str(recipe), *sizes, *overrides],
            cwd=ROOT,
            env={
                **os.environ,
                "DEVICE": "cpu",
                "MODEL_PATH": str(demo / "model"),
                "TRAIN_FILES": str(demo / "train.parquet"),
                "VAL_FILES": str(demo / "val.parquet"),
                "OUTPUT_DIR": str(output_dir),
                **environment,
            },
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    return Recipe(process, output_dir, log)


def read_jsonl(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def scored_again(rollouts: list[dict], extra_rewards: dict | None = None) -> RewardBatch:
    """All rewards of one step, recomputed over its full batch from the texts that the trainer dumped."""
    perturbed = [line for line in rollouts if line["perturbed_response"] is not None]
    return score_batch(
        [line["response"] for line in rollouts],
        np.array([line["mos"] for line in rollouts]),
        [line["uid"] for line in rollouts],
        perturbed_responses=[line["perturbed_response"] for line in perturbed],
        perturbed_group_ids=[line["uid"] for line in perturbed],
        perturbations=[line["perturbation"] for line in perturbed],
        data_sources=[line["data_source"] for line in rollouts],
        video_ids=[line["video_id"] for line in rollouts],
        extra_rewards=extra_rewards,
    )
