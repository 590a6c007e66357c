"""Starts verl's trainer for a recipe, and leaves nothing behind when it ends.

    python -m vqathinker_verl.runner.launch --output-dir DIR [hydra overrides]

verl's own `python -m verl.trainer.main_ppo` does the training; this process checks the input first, in seconds rather
than after minutes of start-up (preflight.py), finds the last whole checkpoint (checkpoints.py), lets one run at a time
into OUTPUT_DIR, sends the output to OUTPUT_DIR/train.log and shows the run's own screen (runner/display.py) or, with
--verbose, the output itself. Afterwards it ends every process of the run and removes its shared memory: Ray and vLLM
leave both behind when they die in the wrong order. That is for this machine; on a cluster's other nodes Ray ends its
workers. Exit codes: verl's own; 2 for bad input, before anything was started; 128 and the signal's number where one
stopped it.
"""

import argparse
import ctypes
import fcntl
import glob
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
from omegaconf import DictConfig

from vqathinker_verl.config import CONFIG_DIR
from vqathinker_verl.config.compose import InputError, hydra_text
from vqathinker_verl.plugin.checkpoints import saved_step
from vqathinker_verl.plugin.run_mark import RUN_MARK
from vqathinker_verl.runner.display import RunDisplay, say_failure, show_ending
from vqathinker_verl.runner.facts import facts_of
from vqathinker_verl.runner.failure import FailureReader
from vqathinker_verl.runner.memory import MemoryLog
from vqathinker_verl.runner.metrics_log import merge_metrics
from vqathinker_verl.runner.output_copy import LogTee
from vqathinker_verl.runner.preflight import check
from vqathinker_verl.runner.resume import resume_overrides
from vqathinker_verl.runner.shared_memory import remove_shared_memory

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
    parser.add_argument(
        "--verbose",
        action="store_true",
        default=os.environ.get("VERBOSE", "") not in ("", "0"),
        help="print what verl, Ray and vLLM print, in place of the screen (environment: VERBOSE=1)",
    )
    args, overrides = parser.parse_known_args(argv)
    began = time.time()
    output_dir = args.output_dir.resolve()
    overrides = [*outputs_in(output_dir), *overrides]
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
        with lock_output_dir(output_dir):
            config = check(args.config_dir, args.config_name, overrides)
            facts = described(config, output_dir)
            overrides += [*resume_overrides(config), logger_override(config, verbose=args.verbose)]
            resumed = resumed_step(config, overrides)
            if resumed >= facts.get("total_steps", math.inf) and not config.trainer.get("val_only", False):
                show_ending(merge_metrics(output_dir), output_dir)
                print(
                    f"vqathinker: this run is complete: {resumed} of {facts['total_steps']} steps are done. --steps "
                    f"{2 * resumed} (TOTAL_STEPS) continues it, another --output-dir (OUTPUT_DIR) starts a new one",
                    file=sys.stderr,
                )
                return 0
            return train(
                args.config_dir,
                args.config_name,
                overrides,
                output_dir,
                facts=facts,
                resumed=resumed,
                began=began,
                verbose=args.verbose,
            )
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


def described(config: DictConfig, output_dir: Path) -> dict[str, Any]:
    """Facts of the run for its screen; none, with the error in train.log, if they cannot be found out."""
    try:
        return facts_of(config)
    except Exception:
        with (output_dir / "train.log").open("a", encoding="utf-8") as log:
            log.write(f"vqathinker: no description of the run:\n{traceback.format_exc()}")
        return {}


def logger_override(config: DictConfig, *, verbose: bool) -> str:
    """`trainer.logger` of verl without `console` unless everything is printed, and with `file`, which the screen reads.

    Without this launcher, verl's own console lines are all there is, so the recipes' configuration names them.
    """
    names = [name for name in _listed(config.trainer.logger) if verbose or name != "console"]
    return f"trainer.logger=[{','.join([*names, *(['file'] if 'file' not in names else [])])}]"


def resumed_step(config: DictConfig, overrides: list[str]) -> int:
    """The step of the checkpoint that this start resumes from; 0 for none."""
    path = next((item for item in reversed(overrides) if item.startswith("trainer.resume_from_path=")), "")
    chosen = re.search(r"global_step_(\d+)/?$", path)
    if config.trainer.resume_mode == "disable":
        return 0
    return int(chosen[1]) if chosen else saved_step(Path(config.trainer.default_local_dir)) or 0


def _listed(names: str | Iterable[str]) -> list[str]:
    return [names] if isinstance(names, str) else list(names)


@contextmanager
def lock_output_dir(output_dir: Path) -> Iterator[None]:
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


def train(
    config_dir: Path,
    config_name: str,
    overrides: list[str],
    output_dir: Path,
    *,
    facts: dict[str, Any] | None = None,
    resumed: int = 0,
    began: float | None = None,
    verbose: bool = False,
) -> int:
    """Run verl's trainer to its end.

    Args:
        config_dir: folder of the configuration.
        config_name: its file.
        overrides: Hydra's.
        output_dir: OUTPUT_DIR, absolute.
        facts: what is shown of the run (runner/facts.py).
        resumed: step of the checkpoint that it resumes from.
        began: when this process began, in seconds since the epoch; default: now.
        verbose: print the output in place of the screen.

    Returns:
        The exit code.
    """
    started = time.time()
    (output_dir / "metrics").mkdir(exist_ok=True)
    merge_metrics(output_dir)
    run_id = uuid.uuid4().hex
    remove_ray_dir(output_dir)
    ray_dir = None if os.environ.get("RAY_ADDRESS") else make_ray_dir(output_dir)
    display = RunDisplay(output_dir, facts or {}, began or started, resumed, verbose=verbose)
    ours = {
        RUN_MARK: run_id,
        "VERL_FILE_LOGGER_PATH": str(output_dir / "metrics" / f"{display.name}.jsonl"),
        "TENSORBOARD_DIR": str(output_dir / "tensorboard" / display.name),
    }
    environment = {**(OWN_RAY if ray_dir else {}), **os.environ, **ours}
    environment.pop("VERBOSE", None)  # vLLM has a variable of this name, and fails where it is no number
    command = [sys.executable, "-m", "verl.trainer.main_ppo", f"--config-path={config_dir}"]
    command += [f"--config-name={config_name}", *overrides]
    # For the workers of a cluster that is up: they inherit its nodes' environment and not this process's.
    command += [f"++ray_kwargs.ray_init.runtime_env.env_vars.{name}={json.dumps(ours[name])}" for name in ours]
    if ray_dir:  # local: a Ray that somebody else has started on this machine is not joined unasked
        command += [f"+ray_kwargs.ray_init._temp_dir={ray_dir}", "++ray_kwargs.ray_init.address=local"]
    child = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, preexec_fn=_die_with_parent
    )
    asked: list[int] = []  # the signals that asked this process to stop
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
            continue  # nohup: the run outlives its terminal
        signal.signal(number, lambda number, _: _stop(number, asked, display, child))
    display.begin()  # after the fork, which is not safe in a process of several threads
    assert child.stdout is not None
    output = LogTee(child.stdout, display.log, display.readers, echo=verbose, told=display.note)
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
    if ray_dir and (code == 0 or asked):
        shutil.rmtree(ray_dir, ignore_errors=True)
        remove_ray_dir(output_dir)
    if code == 0:
        display.finish(0, None, draw=True)
        return 0
    if asked:
        name = signal.Signals(asked[0]).name
        display.finish(128 + asked[0], f"stopped by {name}", draw=False)
        print(f"vqathinker: stopped by {name}; {next_start(output_dir)}", file=sys.stderr)
        return 128 + asked[0]
    reason = failure_reason(code, display.failure, ended_at, output_dir)
    code = code if code > 0 else 128 - code
    display.finish(code, reason, draw=True)
    say_failure(code, reason, display.failure.excerpt, display.log, ray_dir or "on the cluster")
    return code


def _stop(number: int, asked: list[int], display: RunDisplay, child: "subprocess.Popen[bytes]") -> None:
    asked.append(number)
    display.stopping(signal.Signals(number).name)
    child.terminate()


def next_start(output_dir: Path) -> str:
    """What the same command would do next."""
    step = saved_step(output_dir / "checkpoints")
    if step is None:
        return "no checkpoint was saved yet, so the same command starts from the beginning"
    return f"the same command resumes from the checkpoint of step {step}"


def failure_reason(code: int, failure: FailureReader, ended_at: float, output_dir: Path) -> str:
    """Why the run failed, from the exit code, from what was printed and from the disk; it may have several lines."""
    first, *more = (failure.reason or "none was printed").splitlines()
    if code < 0:
        first = f"verl's driver was ended by {signal.Signals(-code).name}; the last error printed: {first}"
    if dead := failure.dead_actors(since=ended_at - DIED_TOGETHER_SECONDS):
        first = f"{first} [died before: {', '.join(dead)}]"
    if full := full_disk(output_dir, output_dir / "checkpoints"):
        first = f"no space left on the disk of {full} ({first})"
    return "\n".join([first, *more])


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
