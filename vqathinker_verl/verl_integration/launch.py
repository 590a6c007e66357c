"""Starts verl's trainer for a recipe, and leaves nothing behind when it ends.

    python -m vqathinker_verl.verl_integration.launch --output-dir DIR [hydra overrides]

verl's own `python -m verl.trainer.main_ppo` does the training; this process checks the input first, in seconds rather
than after minutes of start-up (preflight.py), finds the last whole checkpoint (checkpoints.py), lets one run at a time
into OUTPUT_DIR, copies the output to OUTPUT_DIR/train.log, and afterwards ends every process of the run and removes its
shared memory: Ray and vLLM leave both behind when they die in the wrong order. That is for this machine; on a cluster's
other nodes Ray ends its workers. Exit codes: verl's own; 2 for bad input, before anything was started; 128 and the
signal's number where one stopped it.
"""

import argparse
import ctypes
import fcntl
import glob
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from vqathinker_verl.summary import merge_metrics
from vqathinker_verl.verl_integration.checkpoints import finished_steps, resume_overrides, total_steps
from vqathinker_verl.verl_integration.memory import MemoryLog
from vqathinker_verl.verl_integration.output_copy import OutputCopy
from vqathinker_verl.verl_integration.preflight import InputError, check, hydra_text
from vqathinker_verl.verl_integration.run_mark import RUN_MARK
from vqathinker_verl.verl_integration.shared_memory import remove_shared_memory

CONFIG_DIR = Path(__file__).resolve().parents[2] / "recipes" / "config"
SOCKETS = "/tmp/rl-colocate-zmq-{run}-*"  # patches.own_socket
RAY_DIR = "vqa-"  # a temporary folder's name begins so
PR_SET_PDEATHSIG = 1
OWN_RAY = {  # for a Ray of the run's own
    # Its control service remembers 100,000 tasks, which took 30 MiB in 300 steps. They serve `ray list tasks` only.
    "RAY_task_events_max_num_task_in_gcs": "2000",
    # When that service dies, everybody waits 60 s for it to come back; here nobody starts it again.
    "RAY_gcs_rpc_server_reconnect_timeout_s": "30",
}
FULL_BYTES = 2**20  # a disk with less is full: a file of any size is written up to its end
DIED_TOGETHER_SECONDS = 120.0  # a death that is told this long before the end may be its cause


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, check, run, clear up. A run that is finished already is not started again."""
    parser = argparse.ArgumentParser(description="Run verl's trainer with a recipe's config.")
    parser.add_argument("--output-dir", type=Path, required=True, help="checkpoints, metrics and logs go here")
    parser.add_argument("--config-name", default="vqathinker", help="YAML file in --config-dir")
    parser.add_argument("--config-dir", type=Path, default=CONFIG_DIR)
    args, overrides = parser.parse_known_args(argv)
    output_dir = args.output_dir.resolve()
    overrides = [*outputs_in(output_dir), *overrides]
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
        with only_run_in(output_dir):
            config = check(args.config_dir, args.config_name, overrides)
            if (done := finished_steps(config)) is not None:
                print(
                    f"vqathinker: {output_dir}: {done} of {total_steps(config)} steps are done, none is left to train\n"
                    f"vqathinker: --steps {2 * done} (TOTAL_STEPS={2 * done}) continues this run; another --output-dir "
                    "(OUTPUT_DIR) starts a new one"
                )
                return 0
            overrides += resume_overrides(config)
            print(f"vqathinker: output in {output_dir}", flush=True)
            return train(args.config_dir, args.config_name, overrides, output_dir)
    except InputError as error:
        print(f"vqathinker: {error}", file=sys.stderr)
        return 2
    except OSError as error:  # a disk that is full or may not be written, before anything was started
        print(f"vqathinker: {output_dir}: {error}", file=sys.stderr)
        return 2


def outputs_in(output_dir: Path) -> list[str]:
    """Overrides that keep everything a run writes under OUTPUT_DIR."""
    folders = {
        "trainer.default_local_dir": "checkpoints",
        "trainer.validation_data_dir": "validation",
        "vqathinker.rollout_dir": "rollouts",
        "hydra.run.dir": "hydra",
    }
    return [f"{field}={hydra_text(output_dir / name)}" for field, name in folders.items()]


@contextmanager
def only_run_in(output_dir: Path) -> Iterator[None]:
    """Hold OUTPUT_DIR/.lock, which the system gives up when this process dies, however it dies.

    The file keeps the time of the last start, so that what a killed run left in shared memory is removed here.

    Raises:
        InputError: another run holds it.
    """
    with (output_dir / ".lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(f"{output_dir}: another run uses this OUTPUT_DIR; choose another one or wait") from None
        lock.seek(0)
        if last_start := lock.read():
            remove_shared_memory(since=float(last_start))
        lock.truncate(0)
        lock.write(str(time.time()))
        lock.flush()
        yield


def train(config_dir: Path, config_name: str, overrides: list[str], output_dir: Path) -> int:
    """Run verl's trainer to its end; returns its exit code."""
    metrics_dir = output_dir / "metrics"
    metrics_dir.mkdir(exist_ok=True)
    merge_metrics(output_dir)
    run_id = uuid.uuid4().hex
    remove_ray_dir(output_dir)
    ray_dir = None if os.environ.get("RAY_ADDRESS") else make_ray_dir(output_dir)
    # A start's own files: steps that it takes again are not in them twice.
    start = f"{len(list(metrics_dir.glob('*.jsonl'))):04d}"
    ours = {
        RUN_MARK: run_id,
        "VERL_FILE_LOGGER_PATH": str(metrics_dir / f"{start}.jsonl"),
        "TENSORBOARD_DIR": str(output_dir / "tensorboard" / start),
    }
    environment = {**(OWN_RAY if ray_dir else {}), **os.environ, **ours}
    command = [sys.executable, "-m", "verl.trainer.main_ppo", f"--config-path={config_dir}"]
    command += [f"--config-name={config_name}", *overrides]
    # For the workers of a cluster that is up: they inherit its nodes' environment and not this process's.
    command += [f"++ray_kwargs.ray_init.runtime_env.env_vars.{name}={json.dumps(ours[name])}" for name in ours]
    if ray_dir:  # local: a Ray that somebody else has started on this machine is not joined unasked
        command += [f"+ray_kwargs.ray_init._temp_dir={ray_dir}", "++ray_kwargs.ray_init.address=local"]
    started = time.time()
    child = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, preexec_fn=_die_with_parent
    )
    asked: list[int] = []  # the signals that asked this process to stop
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
            continue  # nohup: the run outlives its terminal
        signal.signal(number, lambda number, _: (asked.append(number), child.terminate()))
    assert child.stdout is not None
    output = OutputCopy(child.stdout, output_dir / "train.log")
    memory = MemoryLog(output_dir / "memory.jsonl", lambda: [process.pid for process in processes_of(run_id)])
    try:
        code = child.wait()
        ended_at = time.monotonic()
    finally:
        memory.stop()
        child.kill()
        end_processes(run_id)  # before the copy is joined: workers that outlive the driver hold its output open
        output.join()
        remove_shared_memory(since=started)
        for socket in glob.glob(SOCKETS.format(run=run_id[:12])):
            Path(socket).unlink(missing_ok=True)
        try:
            merge_metrics(output_dir)
        except OSError as error:  # of a full disk; the run's own failure is to be told yet
            print(f"vqathinker: metrics.jsonl was not written: {error}", file=sys.stderr)
    if ray_dir and (code == 0 or asked):
        shutil.rmtree(ray_dir, ignore_errors=True)
        remove_ray_dir(output_dir)
    if code == 0:
        return 0
    if asked:
        print(
            f"vqathinker: stopped by {signal.Signals(asked[0]).name}; the same command goes on from the last save",
            file=sys.stderr,
        )
        return 128 + asked[0]
    reason = output.reason or "none was printed"
    if code < 0:
        reason = f"verl's driver was ended by {signal.Signals(-code).name}; the last error printed: {reason}"
    if dead := output.dead_actors(since=ended_at - DIED_TOGETHER_SECONDS):
        reason = f"{reason} [died before: {', '.join(dead)}]"
    if full := full_disk(output_dir, output_dir / "checkpoints"):
        reason = f"no space left on the disk of {full} ({reason})"
    print(
        f"vqathinker: the run stopped with exit code {code}. Reason: {reason}\n"
        f"vqathinker: whole log: {output_dir / 'train.log'}; Ray's logs: {ray_dir or 'on the cluster'}",
        file=sys.stderr,
    )
    return code if code > 0 else 128 - code


def make_ray_dir(output_dir: Path) -> str:
    """A temporary folder for Ray, with a link OUTPUT_DIR/ray to it.

    Unix sockets allow about 100 characters of path, so it is not under OUTPUT_DIR.
    """
    ray_dir = tempfile.mkdtemp(prefix=RAY_DIR)
    with suppress(OSError):  # of a disk that has no links
        (output_dir / "ray").symlink_to(ray_dir)
    return ray_dir


def remove_ray_dir(output_dir: Path) -> None:
    """Remove the folder that OUTPUT_DIR/ray leads to, and the link; a run that failed has left its logs there."""
    link = output_dir / "ray"
    if link.is_symlink():
        ray_dir = link.readlink()
        if ray_dir.parent == Path(tempfile.gettempdir()) and ray_dir.name.startswith(RAY_DIR):
            shutil.rmtree(ray_dir, ignore_errors=True)
        link.unlink()


def full_disk(*folders: Path) -> Path | None:
    """The first of the folders whose disk is full: PyTorch says "unexpected pos" of a save that met its end."""
    return next((path for path in folders if path.is_dir() and shutil.disk_usage(path).free < FULL_BYTES), None)


def processes_of(run_id: str) -> list[psutil.Process]:
    """Every process whose environment carries this run's mark, whoever its parent is by now."""
    return [process for process in psutil.process_iter() if _run_of(process) == run_id]


def end_processes(run_id: str, grace_seconds: float = 5.0) -> int:
    """End every process of this run; returns how many there were."""
    processes = processes_of(run_id)
    for process in processes:
        _signal(process, signal.SIGTERM)
    _, alive = psutil.wait_procs(processes, timeout=grace_seconds)
    for process in alive:
        _signal(process, signal.SIGKILL)
    psutil.wait_procs(alive, timeout=grace_seconds)
    return len(processes)


def _run_of(process: psutil.Process) -> str | None:
    try:
        return None if process.pid == os.getpid() else process.environ().get(RUN_MARK)
    except psutil.Error:
        return None


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
