"""Real actors of Ray, busy or idle, that are killed; HTTP servers that answer as vLLM's does."""

import asyncio
import os
import signal
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
import ray

from vqathinker_verl.plugin import liveness
from vqathinker_verl.plugin.liveness import Liveness
from vqathinker_verl.plugin.watchdog import Watchdog


@ray.remote(num_cpus=0)
class Asynchronous:
    """As verl's agent loop workers."""

    async def pid(self):
        return os.getpid()

    async def work(self):
        await asyncio.sleep(600)


@ray.remote(num_cpus=0)
class Synchronous:
    """As TransferQueue's actors."""

    def pid(self):
        return os.getpid()

    def work(self):
        time.sleep(600)


def wait_for(messages, seconds=20):
    end = time.monotonic() + seconds
    while not messages and time.monotonic() < end:
        time.sleep(0.05)
    return messages


@pytest.mark.parametrize("kind", [Asynchronous, Synchronous])
@pytest.mark.parametrize("busy", [True, False])
def test_an_actor_that_is_killed_is_named_whatever_it_was_doing(cluster, kind, busy):
    messages = []
    actors = {"worker 0": Asynchronous.remote(), "worker 1": kind.remote()}
    pids = {name: ray.get(actor.pid.remote()) for name, actor in actors.items()}
    if busy:
        actors["worker 1"].work.remote()
    watch = Liveness(actors, [], messages.append, seconds=0.1)
    time.sleep(1)
    assert messages == []
    os.kill(pids["worker 1"], signal.SIGKILL)
    assert wait_for(messages)
    assert messages[0].startswith("watchdog: worker 1 died")
    time.sleep(0.5)
    assert len(messages) == 1
    watch.stop()


def test_after_the_end_nobody_is_missed(cluster):
    messages = []
    actor = Asynchronous.remote()
    pid = ray.get(actor.pid.remote())
    watch = Liveness({"worker": actor}, [], messages.append, seconds=0.1)
    watch.stop()
    os.kill(pid, signal.SIGKILL)
    time.sleep(1)
    assert messages == []


@contextmanager
def server(answer):
    """One that gives `answer()`, an HTTP status, to whoever asks for its health."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(answer() if self.path == "/health" else 404)
            self.end_headers()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        Thread(target=running.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{running.server_port}"
        running.shutdown()


@pytest.mark.parametrize(
    ("answers", "dead"),
    [
        ([200], False),
        ([503], True),
        ([503, 200], False),  # a single one may be a proxy's, or a moment's
        ([500], False),  # something else is wrong, and requests will say so
    ],
)
def test_a_server_answers_for_its_engine(monkeypatch, answers, dead):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # not asked
    messages, asked = [], []

    def answer():
        asked.append(None)
        return answers[(len(asked) - 1) % len(answers)]

    with server(answer) as address:
        watch = Liveness({}, [address], messages.append, seconds=0.05)
        assert bool(wait_for(messages, 20 if dead else 1.5)) == dead
        watch.stop()
    assert len(asked) >= 2
    if dead:
        assert f"vLLM at {address} died" in messages[0]


def test_a_server_that_is_gone(cluster):
    messages = []
    with server(lambda: 200) as address:
        pass
    watch = Liveness({}, [address], messages.append, seconds=0.05)
    assert wait_for(messages)
    watch.stop()


def test_a_server_that_is_slow_is_not_dead(monkeypatch):
    monkeypatch.setattr(liveness, "HEALTH_SECONDS", 0.1)
    messages = []
    with server(lambda: time.sleep(0.5) or 200) as address:
        watch = Liveness({}, [address], messages.append, seconds=0.05)
        assert not wait_for(messages, 2)
        watch.stop()


def test_a_death_ends_the_process_as_a_phase_without_progress_does():
    messages = []
    watchdog = Watchdog(0.8, start_seconds=0.8, on_expiry=messages.append)
    watchdog.expire("watchdog: a worker died")
    time.sleep(1.5)
    assert messages == ["watchdog: a worker died"]
