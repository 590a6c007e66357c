"""End the run when a phase takes too long, or when a process dies for which verl would wait without a message.

A failure inside verl's weight sync leaves trainer and server waiting for each other: no exception, no timeout. And verl
0.9.1 polls TransferQueue until all responses are there; it does not notice that an agent loop worker died with its
prompts, a storage unit with its responses, or a vLLM engine. The FSDP workers need no watching, because the trainer
waits for them in Ray calls, which fail; nor do the frame caches, which Ray starts again.

Ending the trainer's process ends the run: verl's driver sees the actor die, and the launcher (launch.py) clears up.
"""

import faulthandler
import logging
import os
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, RayError

logger = logging.getLogger(__name__)
EXIT_CODE = 70
LOOK_SECONDS = 5.0  # between two looks at the processes
WAITED_FOR = ("agent_loop_worker_", "vllm_server_", "TransferQueue")  # how the names of these actors begin
ENGINE_IS_DEAD = 503  # vLLM's /health then (vllm/entrypoints/serve/instrumentator/health.py)
HEALTH_SECONDS = 30.0  # a server that answers later than this is busy
IN_A_ROW = 2  # a server must be found dead this many times
# Proxies from the environment are not meant for machines of the cluster.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Supervision:
    """Limits the time between two signs of progress, and watches processes.

    Args:
        start_seconds: longest time until the first phase: models are read from a disk, servers start.
        phase_seconds: longest time of a phase.
        sync_seconds: longest time of a weight sync.
        on_failure: called once, with the message. The default ends this process with code 70.
    """

    def __init__(
        self,
        *,
        start_seconds: float,
        phase_seconds: float,
        sync_seconds: float,
        on_failure: Callable[[str], None] | None = None,
    ) -> None:
        self._phase_seconds, self._sync_seconds = phase_seconds, sync_seconds
        self._on_failure = on_failure or _end_process
        self._lock = threading.Lock()
        self._phase, self._limit, self._since = "start", start_seconds, time.monotonic()
        self._stopped = threading.Event()
        threading.Thread(target=self._watch_clock, name="vqathinker-watchdog", daemon=True).start()

    def enter(self, phase: str, seconds: float | None = None) -> None:
        """A new phase begins: the clock starts again, with `seconds` (default: `phase_seconds`) as its limit."""
        with self._lock:
            self._phase, self._limit, self._since = phase, seconds or self._phase_seconds, time.monotonic()

    @contextmanager
    def weight_sync(self) -> Iterator[None]:
        """The phase with a limit of its own; the general limit holds again after it."""
        self.enter("weight sync", self._sync_seconds)
        yield
        self.enter("after weight sync")

    @contextmanager
    def watching(self, actors: Mapping[str, Any], servers: Sequence[str]) -> Iterator[None]:
        """Watch processes until the end of the block.

        Args:
            actors: Ray's handles by name. Each is asked for Ray's own `__ray_ready__`, and again once it has answered;
                the call waits while the actor is busy, and Ray answers it when the actor dies.
            servers: addresses of vLLM's HTTP servers, as host:port; they answer for their engines.
        """
        ended = threading.Event()
        thread = threading.Thread(
            target=self._watch_processes, args=(actors, servers, ended), name="vqathinker-liveness", daemon=True
        )
        thread.start()
        try:
            yield
        finally:
            ended.set()

    def stop(self) -> None:
        """End the supervision."""
        self._stopped.set()

    def _watch_clock(self) -> None:
        while not self._stopped.wait(0.5):
            with self._lock:
                phase, limit, elapsed = self._phase, self._limit, time.monotonic() - self._since
            if elapsed > limit:
                self._fail(
                    f"no progress in phase '{phase}' for {elapsed:.0f} s (limit {limit:.0f} s); stopping the run. "
                    "Raise vqathinker.watchdog.* if this phase is only slow."
                )

    def _watch_processes(self, actors: Mapping[str, Any], servers: Sequence[str], ended: threading.Event) -> None:
        calls = {actor.__ray_ready__.remote(): name for name, actor in actors.items()}
        found_dead = dict.fromkeys(servers, 0)
        while not ended.wait(LOOK_SECONDS):
            dead = dead_actors(actors, calls)
            for server in servers:
                found_dead[server] = found_dead[server] + 1 if engine_is_dead(server) else 0
                if found_dead[server] >= IN_A_ROW:
                    dead.append(f"vLLM at {server}")
            if dead and not ended.is_set():
                self._fail(
                    f"{' and '.join(dead)} died, so this step cannot finish; stopping the run. Look above or in Ray's "
                    "logs for its last output; Ray's memory monitor and the kernel (dmesg) name what they ended."
                )
                return

    def _fail(self, message: str) -> None:
        self._stopped.set()
        self._on_failure(f"watchdog: {message}")


def waited_for() -> dict[str, Any]:
    """The named actors of this run without which a step does not end, by their names in Ray."""
    namespaces = (ray.get_runtime_context().namespace, "transfer_queue")  # a cluster may have other runs
    return {
        found["name"]: ray.get_actor(**found)
        for found in ray.util.list_named_actors(all_namespaces=True)
        if found["namespace"] in namespaces and found["name"].startswith(WAITED_FOR)
    }


def dead_actors(actors: Mapping[str, Any], calls: dict[Any, str]) -> list[str]:
    """Names of the actors that died, by the calls that wait for their answers; answered calls are replaced in place."""
    dead = []
    for call in ray.wait(list(calls), num_returns=len(calls), timeout=0)[0] if calls else []:
        name = calls.pop(call)
        try:
            ray.get(call)
        except ActorUnavailableError:  # unreachable for now
            pass
        except RayError:  # ActorDiedError, or OutOfMemoryError where Ray's memory monitor ended it
            dead.append(name)
            continue
        calls[actors[name].__ray_ready__.remote()] = name
    return dead


def engine_is_dead(server: str) -> bool:
    """Whether a vLLM server, given as host:port, reports its engine dead, or nothing listens there any more."""
    try:
        _opener.open(f"http://{server}/health", timeout=HEALTH_SECONDS).close()
    except urllib.error.HTTPError as error:
        return error.code == ENGINE_IS_DEAD
    except urllib.error.URLError as error:
        return isinstance(error.reason, ConnectionRefusedError)
    except OSError:  # slow, or the answer was cut off
        return False
    return False


def _end_process(message: str) -> None:
    logger.error(message)
    print(message, file=sys.stderr, flush=True)  # noqa: T201 (must not depend on the configuration of logging)
    faulthandler.dump_traceback(file=sys.stderr)
    sys.stderr.flush()
    os._exit(EXIT_CODE)
