"""The checks of recipes/check_gpu.sh: short real runs on this machine, gathered in one JSON file and one page."""

import argparse
import datetime
import html
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from helpers.tiny_models import SIDE, save_tiny

from vqathinker_verl.files import write_json, write_text
from vqathinker_verl.runner.machine import visible_gpus

VQATHINKER = [sys.executable, "-m", "vqathinker_verl.cli"]
STEPS, VIDEOS, GROUP_SIZE = 2, 8, 4
ROLLOUT = "actor_rollout_ref.rollout"
KV_CACHE = re.compile(r"GPU KV cache size: ([\d,]+) tokens|Available KV cache memory: ([\d.]+) GiB")
TAIL = 40  # lines of a failed run's log in the report
SMALL = [
    "data.max_prompt_length=1024",
    "data.max_response_length=64",
    f"{ROLLOUT}.max_model_len=1088",
    f"{ROLLOUT}.n={GROUP_SIZE}",
    f"{ROLLOUT}.max_num_seqs=64",
    f"{ROLLOUT}.gpu_memory_utilization=0.3",
    f"{ROLLOUT}.log_prob_micro_batch_size_per_gpu=8",
    "actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu=8",
    "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=8",
    f"{ROLLOUT}.agent.num_workers=1",
    "data.dataloader_num_workers=0",
    f"data.train_batch_size={VIDEOS}",
    f"actor_rollout_ref.actor.ppo_mini_batch_size={VIDEOS}",
    "trainer.val_before_train=false",
    "trainer.test_freq=-1",
    "trainer.save_freq=-1",
    "ray_kwargs.ray_init.num_cpus=24",
]
VARLEN = ["++actor_rollout_ref.model.override_config.vision_config.varlen_attention=true"]
LORA = [
    "actor_rollout_ref.model.lora_rank=8",
    "actor_rollout_ref.model.target_modules=all-linear",
    "actor_rollout_ref.model.exclude_modules=.*visual.*",
    f"{ROLLOUT}.load_format=safetensors",
]
SEPARATE = [
    f"actor_rollout_ref.actor.ppo_mini_batch_size={VIDEOS // 2}",
    f"{ROLLOUT}.n_gpus_per_node=1",
]
# name -> architecture, further overrides, GPUs it needs
RUNS: dict[str, tuple[str, list[str], int]] = {
    "qwen2_5_vl": ("qwen2_5_vl", [], 1),
    "qwen3_vl": ("qwen3_vl", [], 1),
    "internvl3": ("internvl", [], 1),
    "lora": ("qwen2_5_vl", LORA, 1),
    "varlen": ("qwen2_5_vl", VARLEN, 1),
    "colocate_async": ("qwen2_5_vl", [], 1),
    "separate_async": ("qwen2_5_vl", SEPARATE, 2),
}
EXPERIMENTS = {"internvl3": "internvl3_8b", "colocate_async": "colocate_async", "separate_async": "separate_async"}
CHECKS = ("doctor", "demo", *RUNS)


def main() -> int:
    parser = argparse.ArgumentParser(prog="check_gpu.sh", description=__doc__)
    parser.add_argument("--output-dir", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=CHECKS, default=list(CHECKS), metavar="CHECK")
    parser.add_argument("--demo-steps", type=int, default=30)
    parser.add_argument("--timeout", type=float, default=900.0, help="seconds for one check")
    args = parser.parse_args()
    folder = args.output_dir.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "device": os.environ.get("DEVICE", "gpu"),
        "gpus": _nvidia_smi("name,memory.total,driver_version"),
        "checks": {},
    }
    for name in args.only:
        print(f"check_gpu: {name} …", flush=True)
        found = report["checks"][name] = _check(name, folder, args)
        print(f"check_gpu: {name}: {found['result']} ({found['seconds']:.0f} s)", flush=True)
        write_json(folder / "check_gpu.json", report)
        write_text(folder / "check_gpu.html", _page(report))
    print(f"check_gpu: send back {folder}/check_gpu.json and {folder}/check_gpu.html")
    return int(any(found["result"] == "failed" for found in report["checks"].values()))


def _check(name: str, folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    if name == "doctor":
        return _command([*VQATHINKER, "doctor", "--output-dir", str(folder)], folder / "doctor.log", args.timeout)
    demo = folder / "demo"
    environment = {"DEMO_DIR": str(demo)}
    if name == "demo":
        command = [*VQATHINKER, "train", "--output-dir", str(folder / "run_demo"), "--steps", str(args.demo_steps)]
        command += ["--verbose", "--", f"{ROLLOUT}.free_cache_engine=true", f"{ROLLOUT}.enable_sleep_mode=true"]
        found = _command(command if _on_gpu() else command[:-3], folder / "demo.log", args.timeout, environment)
        return found | _learned(folder / "run_demo")
    architecture, overrides, gpus = RUNS[name]
    if _on_gpu() and visible_gpus() < gpus:
        return {"result": "skipped", "reason": f"needs {gpus} GPUs", "seconds": 0.0}
    if not _on_gpu() and name in ("varlen", "separate_async"):
        return {"result": "skipped", "reason": "needs a GPU", "seconds": 0.0}
    if not (demo / "train.parquet").is_file():
        return {"result": "skipped", "reason": "needs the clips of the check demo", "seconds": 0.0}
    model = folder / f"model_{architecture}"
    if not (model / "config.json").is_file():
        save_tiny(architecture, model)
    command = [*VQATHINKER, "train", "--model", str(model), "--output-dir", str(folder / f"run_{name}")]
    command += ["--train", str(demo / "train.parquet"), "--val", str(demo / "val.parquet"), "--steps", str(STEPS)]
    command += ["--experiment", EXPERIMENTS.get(name, "full")]
    command += ["--gpus", "1", "--verbose", "--", *SMALL, *_frames(architecture), *overrides]
    found = _command(command, folder / f"{name}.log", args.timeout, environment)
    return found | _trained(folder / f"run_{name}")


def _frames(architecture: str) -> list[str]:
    side = SIDE[architecture]
    if architecture == "internvl":  # its experiment states one size
        return [f"data.frames.{split}.size=[{side},{side}]" for split in ("train", "val")]
    return [f"data.frames.{split}.max_pixels={side**2}" for split in ("train", "val")]


def _on_gpu() -> bool:
    return os.environ.get("DEVICE", "gpu") == "gpu"


def _command(
    command: list[str], log: Path, timeout: float, environment: dict[str, str] | None = None
) -> dict[str, Any]:
    """Run a command and return how it ended, and what its log says of vLLM's KV cache."""
    begin = time.monotonic()
    with log.open("w", encoding="utf-8") as output, _peak_memory() as peak:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, **(environment or {})}
        )
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.terminate()  # the launcher ends what it started
            process.wait(120)
            code = None
    text = log.read_text(encoding="utf-8", errors="replace")
    found: dict[str, Any] = {
        "result": "ok" if code == 0 else "failed",
        "exit_code": code if code is not None else f"not finished after {timeout:.0f} s",
        "seconds": round(time.monotonic() - begin, 1),
        "peak_gpu_mib": max(peak, default=None),
        "kv_cache": [match[0] for match in KV_CACHE.finditer(text)][:2],
    }
    if code != 0:
        found["log"] = text.splitlines()[-TAIL:]
    elif log.stem == "doctor":
        found["log"] = text.splitlines()
    return found


@contextmanager
def _peak_memory() -> Iterator[list[int]]:
    """Gather the memory in use on the GPUs, in MiB, every two seconds."""
    used: list[int] = []
    done = threading.Event()

    def watch() -> None:
        while not done.wait(2.0):
            used.extend(int(line) for line in _nvidia_smi("memory.used", "nounits") if line.isdecimal())

    thread = threading.Thread(target=watch, daemon=True)
    if _on_gpu():
        thread.start()
    try:
        yield used
    finally:
        done.set()


def _nvidia_smi(fields: str, more: str = "") -> list[str]:
    style = f"csv,noheader{',' + more if more else ''}"
    try:
        done = subprocess.run(
            ["nvidia-smi", f"--query-gpu={fields}", f"--format={style}"], capture_output=True, text=True, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.strip().splitlines() if done.returncode == 0 else []


def _steps(run: Path) -> list[dict[str, Any]]:
    path = run / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def _learned(run: Path) -> dict[str, Any]:
    """The demo's learning curve: held-out SRCC and the reward by step."""
    steps = _steps(run)
    curve = {line["step"]: line[name] for line in steps for name in line if re.fullmatch(r"val/.*/srcc", name)}
    rewards = {line["step"]: line["reward/overall"] for line in steps if "reward/overall" in line}
    return {"held_out_srcc": curve, "reward": rewards, **_pace(steps)}


def _trained(run: Path) -> dict[str, Any]:
    """What two steps tell: probabilities of both sides, the weights' movement, the pace."""
    steps = [line for line in _steps(run) if "reward/overall" in line]
    names = ("training/rollout_actor_probs_pearson_corr", "actor/grad_norm", "actor/entropy", "actor/kl_loss")
    return {"num_steps": len(steps), **{name: [line.get(name) for line in steps] for name in names}, **_pace(steps)}


def _pace(steps: list[dict[str, Any]]) -> dict[str, Any]:
    return {"seconds_per_step": [round(line["timing_s/step"], 2) for line in steps if "timing_s/step" in line][:5]}


def _page(report: dict[str, Any]) -> str:
    rows = []
    for name, found in report["checks"].items():
        facts = {key: value for key, value in found.items() if key not in ("result", "seconds", "log")}
        log = "\n".join(found.get("log", ()))
        text = html.escape(json.dumps(facts, indent=1, ensure_ascii=False))
        details = f"<details><summary>log</summary><pre>{html.escape(log)}</pre></details>" if log else ""
        rows.append(
            f"<tr><td>{name}</td><td>{found['result']}</td><td>{found['seconds']:.0f}</td>"
            f"<td><pre>{text}</pre>{details}</td></tr>"
        )
    gpus = html.escape("; ".join(report["gpus"]) or "no GPU")
    return (
        "<!doctype html><meta charset=utf-8><title>check_gpu</title>"
        "<style>body{font-family:sans-serif}td{vertical-align:top;border-top:1px solid #ccc;padding:4px 8px}</style>"
        f"<h1>check_gpu</h1><p>{html.escape(report['date'])}; device {report['device']}; {gpus}</p>"
        f"<table><tr><th>check<th>result<th>seconds<th>found</tr>{''.join(rows)}</table>\n"
    )


if __name__ == "__main__":
    sys.exit(main())
