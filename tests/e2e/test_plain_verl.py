"""Two training steps by verl's own command, from the installed wheel, without our launcher and the repository."""

import math
import os
import subprocess
import sys
from contextlib import suppress

import numpy as np
import psutil
import pytest
from helpers.runs import START_SECONDS, descendants, read_jsonl, scored_again
from helpers.wheel import install_wheel

from vqathinker_verl.runner.settings import device_environment

pytestmark = pytest.mark.e2e

STEPS, VIDEOS, GROUP_SIZE = 2, 8, 4


def test_two_steps_of_verls_main(demo, tmp_path):
    wheel = install_wheel(tmp_path, tmp_path / "installed")
    work = tmp_path / "work"
    work.mkdir()
    overrides = [
        "platform=cpu",
        "experiment=demo",
        f"data.train_files={demo}/train.parquet",
        f"data.val_files={demo}/val.parquet",
        f"data.train_batch_size={VIDEOS}",
        f"actor_rollout_ref.model.path={demo}/model",
        f"actor_rollout_ref.actor.ppo_mini_batch_size={VIDEOS}",
        f"actor_rollout_ref.rollout.n={GROUP_SIZE}",
        f"trainer.total_training_steps={STEPS}",
        "trainer.n_gpus_per_node=1",
        "trainer.val_before_train=false",
        "trainer.test_freq=-1",
        "trainer.save_freq=-1",
        f"trainer.default_local_dir={work}/checkpoints",
        f"vqathinker.rollout_dir={work}/rollouts",
        f"hydra.run.dir={work}/hydra",
        "++ray_kwargs.ray_init.address=local",
    ]
    environment = {
        **os.environ,
        **device_environment("cpu"),
        "PYTHONPATH": str(wheel),
        "VERL_FILE_LOGGER_PATH": f"{work}/metrics.jsonl",
        "TENSORBOARD_DIR": f"{work}/tensorboard",
    }
    command = [sys.executable, "-m", "verl.trainer.main_ppo", "--config-path=pkg://vqathinker_verl.config"]
    command += ["--config-name=vqathinker", *overrides]
    log = work / "train.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=work, env=environment, stdout=output, stderr=subprocess.STDOUT)
        try:
            code = process.wait(timeout=START_SECONDS)
        finally:
            for left in descendants(process.pid):
                with suppress(psutil.NoSuchProcess):
                    left.kill()
    assert code == 0, log.read_text(errors="replace")[-3000:]

    lines = {line["step"]: line["data"] for line in read_jsonl(work / "metrics.jsonl") if "actor/lr" in line["data"]}
    assert list(lines) == list(range(1, STEPS + 1))
    for step, metrics in lines.items():
        rollouts = read_jsonl(work / "rollouts" / f"{step}.jsonl")
        assert len(rollouts) == VIDEOS * GROUP_SIZE
        assert any(line["perturbed_response"] is not None for line in rollouts)
        rewards = scored_again(rollouts)
        np.testing.assert_allclose(rewards.total, [line["total"] for line in rollouts], atol=1e-6)
        assert metrics["critic/score/mean"] == pytest.approx(rewards.total.mean(), abs=1e-5)
        assert math.isfinite(metrics["actor/kl_loss"])
