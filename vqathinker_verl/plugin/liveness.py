"""Ends the run when a process dies for which verl would wait in silence.

verl 0.9.1 sends prompts off and looks into TransferQueue until their responses are there. That nobody answers any more,
only the watchdog finds, which allows a phase an hour: an agent loop worker takes its prompts with it, a storage unit
the responses, and a vLLM engine leaves whoever sends it weights waiting. Processes that the trainer waits for by a call
of Ray's (the FSDP workers) need no look, as the call fails; nor do those that are started again (frame caches).
"""

import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ray
from ray.exceptions import ActorDiedError, RayActorError

ENGINE_IS_DEAD = 503  # what vLLM's /health says then (vllm/entrypoints/serve/instrumentator/health.py)
HEALTH_SECONDS = 30.0  # a server that is slower than this is busy
IN_A_ROW = 2  # a server must be found dead so often
# Proxies that the environment names are not for machines of the cluster.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Liveness:
    """Looks every few seconds whether all of them live.

    Args:
        actors: Ray's handles by name. Each is asked for Ray's own `__ray_ready__`, and when it has answered, again;
            one that is too busy to answer has the call waiting, and Ray answers it when the actor dies.
        servers: addresses of vLLM's HTTP servers, as host:port; they answer for their engines.
        on_death: called once, with a message.
        seconds: between two looks.
    """

    def __init__(
        self,
        actors: Mapping[str, Any],
        servers: Sequence[str],
        on_death: Callable[[str], None],
        seconds: float = 5.0,
    ) -> None:
        self._actors, self._servers, self._on_death, self._seconds = actors, servers, on_death, seconds
        self._calls = {name: actor.__ray_ready__.remote() for name, actor in actors.items()}
        self._found_dead = dict.fromkeys(servers, 0)
        self._stopped = threading.Event()
        threading.Thread(target=self._watch, name="vqathinker-liveness", daemon=True).start()

    def stop(self) -> None:
        """Nothing is looked at any more."""
        self._stopped.set()

    def _watch(self) -> None:
        while not self._stopped.wait(self._seconds):
            dead = [
                *filter(self._has_died, self._actors),
                *(f"vLLM at {a}" for a in filter(self._is_dead, self._servers)),
            ]
            if dead and not self._stopped.is_set():
                self._on_death(
                    f"watchdog: {' and '.join(dead)} died, and nothing would come of the step; stopping the run. What "
                    "it said last stands above, or in Ray's logs; a kill by the system (memory) in the kernel's log."
                )
                return

    def _has_died(self, name: str) -> bool:
        answered, _ = ray.wait([self._calls[name]], timeout=0)
        if not answered:
            return False
        try:
            ray.get(answered[0])
        except ActorDiedError:
            return True
        except RayActorError:  # out of reach for now
            pass
        self._calls[name] = self._actors[name].__ray_ready__.remote()
        return False

    def _is_dead(self, server: str) -> bool:
        self._found_dead[server] = self._found_dead[server] + 1 if _engine_is_dead(server) else 0
        return self._found_dead[server] >= IN_A_ROW


def _engine_is_dead(server: str) -> bool:
    try:
        _opener.open(f"http://{server}/health", timeout=HEALTH_SECONDS).close()
    except urllib.error.HTTPError as error:
        return error.code == ENGINE_IS_DEAD
    except urllib.error.URLError as error:
        return isinstance(error.reason, ConnectionRefusedError)
    except OSError:  # slow, or cut off in the middle
        return False
    return False
