"""recipes/check_gpu.sh: its runs are composed as they would be started; they themselves need a GPU."""

import json
import subprocess
import sys
from pathlib import Path

import check_gpu
import pytest

from vqathinker_verl.config import CONFIG_DIR
from vqathinker_verl.config.compose import composed
from vqathinker_verl.runner.preflight import check_settings

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "recipes" / "check_gpu.sh"


@pytest.mark.parametrize("name", check_gpu.RUNS)
def test_every_run_is_one_that_verl_accepts(name):
    architecture, overrides, gpus = check_gpu.RUNS[name]
    data = ["data.train_files=a.parquet", "data.val_files=b.parquet", "actor_rollout_ref.model.path=model"]
    experiment = check_gpu.EXPERIMENTS.get(name, "full")
    platform = ["platform=gpu", f"experiment={experiment}", "trainer.n_gpus_per_node=1"]
    fields = [*data, *platform, *check_gpu.SMALL, *check_gpu._frames(architecture), *overrides]
    config = composed(CONFIG_DIR, "vqathinker", fields)
    check_settings(config)
    assert config.trainer.n_gpus_per_node + bool(config.actor_rollout_ref.rollout.nnodes) == gpus
    assert config.actor_rollout_ref.rollout.free_cache_engine  # sleep and wake


def test_what_it_reads_from_vllms_log():
    text = "INFO Available KV cache memory: 21.30 GiB\nINFO GPU KV cache size: 398,720 tokens\n"
    assert [match[0] for match in check_gpu.KV_CACHE.finditer(text)] == [
        "Available KV cache memory: 21.30 GiB",
        "GPU KV cache size: 398,720 tokens",
    ]


def test_a_failed_check_is_reported_with_its_log(tmp_path):
    command = [sys.executable, "-c", "print('<b>no</b> GPU'); raise SystemExit(3)"]
    found = check_gpu._command(command, tmp_path / "x.log", 60)
    assert (found["result"], found["exit_code"], found["log"]) == ("failed", 3, ["<b>no</b> GPU"])
    page = check_gpu._page({"date": "today", "device": "gpu", "gpus": [], "checks": {"x": found}})
    assert "&lt;b&gt;no&lt;/b&gt; GPU" in page
    json.dumps(found)


def test_what_takes_too_long_is_ended(tmp_path):
    found = check_gpu._command([sys.executable, "-c", "import time; time.sleep(60)"], tmp_path / "x.log", 0.5)
    assert found["exit_code"] == "not finished after 0 s"


def test_help_and_a_missing_folder_of_wheels():
    done = subprocess.run(["bash", str(SCRIPT), "--help"], capture_output=True, text=True, check=True)
    assert "one page to send back" in done.stdout
    environment = {"PATH": "/usr/bin:/bin", "WHEELS": "/no/such/folder"}
    done = subprocess.run(["bash", str(SCRIPT)], capture_output=True, text=True, env=environment)
    assert (done.returncode, "no such folder" in done.stderr) == (2, True)
