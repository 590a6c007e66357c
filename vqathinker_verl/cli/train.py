"""`vqathinker train`: check the settings, make the demo if no data are given, and start verl's trainer."""

import argparse
import os
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from vqathinker_verl.config import CONFIG_DIR
from vqathinker_verl.config.compose import InputError, composed
from vqathinker_verl.runner import launch
from vqathinker_verl.runner.preflight import check_settings
from vqathinker_verl.runner.settings import (
    DEVICES,
    OUTPUT_DIR,
    Settings,
    device_environment,
    overrides_of,
    read_settings,
)

EXAMPLE = """vqathinker train --model /models/Qwen2.5-VL-7B-Instruct --train train.parquet --val val.parquet \\
  --output-dir outputs/lsvq --videos-per-step 32 -- trainer.save_freq=50"""
EXIT_CODES = """0: done, or finished earlier; 1: the run failed; 2: invalid input, nothing was started
128 + N: stopped by signal N (Ctrl-C: 130)"""

VQATHINKER = (sys.executable, "-m", "vqathinker_verl.cli")
STAND_IN = "The demo's MOS is a stand-in: a function of how strongly a clip was degraded. These clips were never rated."


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `vqathinker train`."""
    parser.description = (
        "Train a model by GRPO. Without --model, --train and --val, the command trains the demo: a tiny model, on\n"
        "clips that are made first. A run that was stopped resumes from its last checkpoint. Each option can also be\n"
        "set by the environment variable in brackets."
    )
    data = parser.add_argument_group("model and data")
    data.add_argument("--model", metavar="MODEL", help="Hugging Face folder or name to start from (MODEL_PATH)")
    data.add_argument("--train", nargs="+", metavar="FILE", help="parquet of `vqathinker prepare` (TRAIN_FILES)")
    data.add_argument("--val", nargs="+", metavar="FILE", help="parquet to validate on (VAL_FILES)")
    data.add_argument("--output-dir", metavar="DIR", help=f"folder of the run (OUTPUT_DIR; default: {OUTPUT_DIR})")
    size = parser.add_argument_group("size of the run")
    size.add_argument("--steps", metavar="N", help="training steps in all (TOTAL_STEPS; default: the experiment's)")
    size.add_argument("--videos-per-step", metavar="N", help="batch and mini-batch size (default: the experiment's)")
    size.add_argument("--responses-per-video", metavar="N", help="sampled responses (default: the experiment's)")
    size.add_argument("--experiment", metavar="NAME", help="file of vqathinker_verl/config/experiment (EXPERIMENT; "
                      "default: full, or demo)")  # fmt: skip
    size.add_argument("--seed", metavar="N", help="seed of data and perturbations (SEED; default: 0)")
    machine = parser.add_argument_group("machine")
    machine.add_argument("--device", metavar="|".join(DEVICES), help="(DEVICE; default: gpu if a GPU is found)")
    machine.add_argument("--gpus", metavar="N", help="GPUs per node (NGPUS_PER_NODE; default: all)")
    machine.add_argument("--nodes", metavar="N", help="nodes of the Ray cluster (NNODES; default: the experiment's)")
    output = parser.add_argument_group("output")
    output.add_argument(
        "--verbose", action="store_true", help="print what verl, Ray and vLLM print, without the screen (VERBOSE=1)"
    )
    parser.add_argument("overrides", nargs="*", metavar="FIELD=VALUE", help="Hydra overrides of any field, after --")


def run(args: argparse.Namespace) -> int:
    """Train; return 0 if done, 2 for invalid input, otherwise the exit code of the run."""
    plan = bool(os.environ.get("PLAN"))
    try:
        settings = read_settings(args, os.environ, plan=plan)
        if plan:
            print("\n".join([*overrides_of(_with_demo(settings)), *args.overrides]))
            return 0
        return _train(settings, args)
    except InputError as error:
        print(f"vqathinker train: {error}", file=sys.stderr)
        return 2


def _train(settings: Settings, args: argparse.Namespace) -> int:
    os.environ.update(device_environment(settings.device))
    if settings.demo_dir is not None:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        # Before the demo is made, which takes minutes.
        overrides = [*overrides_of(_with_demo(settings)), *args.overrides]
        check_settings(composed(CONFIG_DIR, "vqathinker", overrides))
        if code := make_demo(settings.demo_dir, settings.seed):
            return code
        settings = _with_demo(settings)
    verbose = ["--verbose"] if args.verbose else []
    code = launch.main(["--output-dir", str(settings.output_dir), *verbose, *overrides_of(settings), *args.overrides])
    if code == 0 and settings.demo_dir is not None:
        print(STAND_IN)
    return code


def make_demo(folder: Path, seed: int) -> int:
    """Make the missing parts of the demo in `folder`; return the exit code of the first command that fails, or 0.

    The commands run in separate processes, so that this one stays small while verl's trainer runs.
    """
    more = shlex.split(os.environ.get("DEMO_ARGUMENTS", ""))
    commands = [["demo", "--output-dir", str(folder), "--seed", str(seed), *more]]
    for split in ("train", "val"):
        labels, parquet = folder / "labels" / f"{split}.csv", folder / f"{split}.parquet"
        if not (parquet.is_file() and labels.is_file() and parquet.stat().st_mtime >= labels.stat().st_mtime):
            source = [str(labels), "--video-root", str(folder / "videos"), "--scale", "0", "100", "--dataset", "demo"]
            commands.append(["prepare", *source, "--split", split, "--output", str(parquet)])
    for command in commands:
        if code := subprocess.run([*VQATHINKER, *command], check=False).returncode:
            return code
    return 0


def _with_demo(settings: Settings) -> Settings:
    """Return the settings, with the demo's model and data if this run is the demo."""
    folder = settings.demo_dir
    if folder is None:
        return settings
    train, val = ((str(folder / f"{split}.parquet"),) for split in ("train", "val"))
    return replace(settings, model=str(folder / "model"), train=train, val=val)
