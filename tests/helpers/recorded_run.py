"""OUTPUT_DIRs of runs as the launcher and verl leave them, small enough to read."""

import json
import time
from pathlib import Path

from vqathinker_verl.files import write_json

FACTS = {
    "title": "VQAThinker 0.1.0, GRPO on verl 0.9.1",
    "model": "outputs/demo/model: qwen2_5_vl, 0.57 M parameters, vision tower frozen",
    "data": "126 training, 42 validation videos; demo; MOS 1.20-4.80",
    "steps": "6; validation every 2, checkpoint every 4",
    "batch": "16 videos x (8 answers + 4 to a perturbed copy)",
    "device": "2 CPU cores, 23 GiB of memory",
    "total_steps": 6,
    "test_freq": 2,
    "save_freq": 4,
    "first_validation": True,
    "max_response_length": 32,
    "gpu": False,
    "val_files": ["/data/my videos/val.parquet"],
}
SRCC = {0: 0.033, 2: 0.794, 4: 0.766, 6: 0.813}
NAMES = ("overall", "regression", "ranking", "temporal", "format")


def step_data(step: int, **more: float) -> dict:
    """Metrics of a training step without trouble."""
    return {
        **{
            f"reward/{name}": round(value + 0.01 * step, 4)
            for name, value in zip(NAMES, (2.1, 0.3, 0.7, 0.1, 0.93), strict=True)
        },
        "reward/parse_failure_rate": 0.01,
        "reward/srcc": 0.5,
        "reward/group_std": 0.5,
        "actor/kl_loss": 0.1,
        "actor/grad_norm": 0.8,
        "actor/entropy": 1.25,
        "actor/lr": 2e-3,
        "reward/temporal_win_rate": 0.6,
        "reward/ranking_accuracy": 0.8,
        "training/epoch": 0,
        "training/rollout_probs_diff_max": 0.001,
        "perf/throughput": 250.0,
        "response_length/mean": 13.5,
        "response_length/max": 20,
        "rollout/total_failed_responses": 0.0,
        "timing_s/step": 9.4,
        "timing_s/gen": 4.7,
        "timing_s/old_log_prob": 1.0,
        "timing_s/ref": 1.0,
        "timing_s/update_actor": 2.4,
        **more,
    }


def validation_data(srcc: float | None, source: str = "demo", videos: int = 42) -> dict:
    """Metrics of a validation; JSON has null for NaN."""
    values = {"srcc": srcc, "plcc": 0.876, "krcc": 0.711, "rmse": 0.586, "parse_failure_rate": 0.012, "scored": videos}
    return {"val/failed_responses": 0.0, **{f"val/{source}/{name}": value for name, value in values.items()}}


def write_metrics(folder: Path, name: str, lines: list[tuple[int, dict]]) -> None:
    (folder / "metrics").mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps({"step": step, "data": data}) + "\n" for step, data in lines)
    (folder / "metrics" / f"{name}.jsonl").write_text(text)


def write_record(folder: Path, *starts: dict, facts: dict | None = None) -> None:
    # As a run writes it: a screen that reads it meanwhile must not find half of it.
    write_json(folder / "run.json", {"facts": FACTS if facts is None else facts, "starts": list(starts)})


def start(began: float, name: str = "0000", **more) -> dict:
    """A start that came through its start-up in 114 s."""
    marks = dict(
        zip(("input", "ray", "trainer", "model", "server", "validation"), (1, 15, 39, 54, 91, 114), strict=True)
    )
    return {
        "began": began,
        "metrics": name,
        "resumed": 0,
        "reached": {phase: began + seconds for phase, seconds in marks.items()},
        "ended": None,
        "code": None,
        "reason": None,
        **more,
    }


def write_rollouts(folder: Path, step: int, response: str, **more) -> None:
    (folder / "rollouts").mkdir(parents=True, exist_ok=True)
    line = {"video_id": "train_0001.mp4", "mos": 1.2, "response": response, "pred_mos": 2.3, "total": 1.96, **more}
    (folder / "rollouts" / f"{step}.jsonl").write_text(json.dumps(line) + "\n")


def metrics_lines(last: int = 6) -> list[tuple[int, dict]]:
    lines = [(0, validation_data(SRCC[0]))]
    for step in range(1, last + 1):
        data = step_data(step)
        if step % 2 == 0:
            data |= {**validation_data(SRCC[step]), "timing_s/testing": 21.0}
        if step in (4, 6):
            data["timing_s/save_checkpoint"] = 0.5
        lines.append((step, data))
    return lines


def finished_run(folder: Path) -> Path:
    """A run of six steps; checkpoints of steps 4 and 6, the best validation at step 6."""
    began = time.time() - 600
    write_metrics(folder, "0000", metrics_lines())
    write_record(folder, start(began, ended=began + 495, code=0))
    write_rollouts(folder, 6, "<think> It looks very flickering </think><answer>2.30</answer>")
    (folder / "memory.jsonl").write_text(json.dumps({"time": began, "bytes": int(9.2 * 2**30)}) + "\n")
    for step in (4, 6):
        (folder / "checkpoints" / f"global_step_{step}" / "actor").mkdir(parents=True)
    return folder
