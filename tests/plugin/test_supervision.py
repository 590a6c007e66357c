"""A clock, real actors of Ray that are killed, busy or idle, and HTTP servers that answer as vLLM's does."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
import ray
from ray.exceptions import ActorUnavailableError, NodeDiedError, OutOfMemoryError

from vqathinker_verl.plugin import supervision as module
from vqathinker_verl.plugin.supervision import EXIT_CODE, Supervision, dead_actors, waited_for


def wait_for(messages, seconds=20):
    end = time.monotonic() + seconds
    while not messages and time.monotonic() < end:
        time.sleep(0.05)
    return messages


@pytest.fixture
def messages():
    return []


@pytest.fixture
def supervise(messages):
    """Makes one that writes into `messages`, with limits of an hour unless given."""
    made = []

    def make(start_seconds=3600, phase_seconds=3600, sync_seconds=3600):
        limits = {"start_seconds": start_seconds, "phase_seconds": phase_seconds, "sync_seconds": sync_seconds}
        made.append(Supervision(**limits, on_failure=messages.append))
        return made[-1]

    yield make
    for supervision in made:
        supervision.stop()


class TestClock:
    def test_a_stuck_phase_is_named_with_its_limit(self, supervise, messages):
        with supervise(sync_seconds=0.1).weight_sync():
            assert wait_for(messages)
        assert messages[0].startswith("watchdog: no progress in phase 'weight sync'")
        assert "vqathinker.watchdog" in messages[0]

    def test_progress_keeps_it_quiet_and_the_general_limit_returns(self, supervise, messages):
        with supervise(sync_seconds=0.8).weight_sync():
            pass
        time.sleep(1.5)
        assert messages == []

    def test_a_start_has_a_limit_of_its_own(self, supervise, messages):
        supervise(start_seconds=1.5, phase_seconds=0.1)
        time.sleep(1)
        assert messages == []
        assert wait_for(messages)
        assert "phase 'start'" in messages[0]
        assert "limit 2 s" in messages[0]

    def test_it_ends_a_process_that_waits_for_ever(self):
        script = (
            "import threading\n"
            "from vqathinker_verl.plugin.supervision import Supervision\n"
            "Supervision(start_seconds=3600, phase_seconds=3600, sync_seconds=1).enter('weight sync', 0.1)\n"
            "threading.Event().wait()\n"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
        assert done.returncode == EXIT_CODE
        assert "watchdog: no progress in phase 'weight sync'" in done.stderr
        assert "Thread" in done.stderr  # where it was stuck


@pytest.fixture
def soon(monkeypatch):
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.1)


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


@pytest.mark.usefixtures("cluster", "soon")
class TestActors:
    @pytest.mark.parametrize("kind", [Asynchronous, Synchronous])
    @pytest.mark.parametrize("busy", [True, False])
    def test_one_that_is_killed_is_named_whatever_it_was_doing(self, supervise, messages, kind, busy):
        actors = {"worker 0": Asynchronous.remote(), "worker 1": kind.remote()}
        pids = {name: ray.get(actor.pid.remote()) for name, actor in actors.items()}
        if busy:
            actors["worker 1"].work.remote()
        with supervise().watching(actors, []):
            time.sleep(1)
            assert messages == []
            os.kill(pids["worker 1"], signal.SIGKILL)
            assert wait_for(messages)
            assert messages[0].startswith("watchdog: worker 1 died")
            time.sleep(0.5)
        assert len(messages) == 1

    def test_none_is_missed_after_the_block(self, supervise, messages):
        actor = Asynchronous.remote()
        pid = ray.get(actor.pid.remote())
        with supervise().watching({"worker": actor}, []):
            pass
        os.kill(pid, signal.SIGKILL)
        time.sleep(1)
        assert messages == []

    def test_a_death_stops_the_clock_too(self, supervise, messages):
        """The process is about to end: it is not reported twice."""
        actor = Asynchronous.remote()
        os.kill(ray.get(actor.pid.remote()), signal.SIGKILL)
        with supervise(start_seconds=3).watching({"worker": actor}, []):
            assert wait_for(messages)
            time.sleep(3.5)
        assert len(messages) == 1

    @pytest.mark.parametrize(
        ("error", "dead"),
        [
            (OutOfMemoryError("Task was killed due to the node running low on memory."), ["worker"]),
            (NodeDiedError("The node died."), ["worker"]),
            (ActorUnavailableError("The actor is temporarily unavailable.", None), []),
        ],
    )
    def test_whatever_ray_says_ended_it(self, monkeypatch, error, dead):
        """Not all of these are RayActorErrors: Ray's memory monitor has an error of its own."""
        actor = Asynchronous.remote()

        def get(_):
            raise error

        monkeypatch.setattr(ray, "get", get)
        calls = {actor.pid.remote(): "worker"}
        ray.wait(list(calls))
        assert dead_actors({"worker": actor}, calls) == dead
        assert list(calls.values()) == ([] if dead else ["worker"])

    def test_ray_names_those_that_verl_waits_for(self):
        """By the names that verl 0.9.1 and TransferQueue 0.1.11 give, in this run's namespace or TransferQueue's."""
        expected = {
            "agent_loop_worker_0_1a2b3c4d": None,
            "vllm_server_0_0": None,
            "TransferQueueStorageUnit#0": None,
            "TransferQueueController": "transfer_queue",
        }
        others = {"abcdefWorkerDict_0:0": None, "vqathinker_frames_1": None, "agent_loop_worker_0_ffff": "another run"}
        made = {
            name: Asynchronous.options(name=name, namespace=namespace).remote()
            for name, namespace in (expected | others).items()
        }
        ray.get([actor.pid.remote() for actor in made.values()])
        found = waited_for()
        assert found.keys() == expected.keys()
        assert all(found[name] == made[name] for name in expected)


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


@pytest.mark.usefixtures("soon")
class TestServers:
    @pytest.mark.parametrize(
        ("answers", "dead"),
        [
            ([200], False),
            ([503], True),
            ([503, 200], False),  # a single one may be a proxy's, or a moment's
            ([500], False),  # something else is wrong, and requests will say so
        ],
    )
    def test_a_server_answers_for_its_engine(self, supervise, messages, monkeypatch, answers, dead):
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # not asked
        asked = []

        def answer():
            asked.append(None)
            return answers[(len(asked) - 1) % len(answers)]

        with server(answer) as address, supervise().watching({}, [address]):
            assert bool(wait_for(messages, 20 if dead else 1.5)) == dead
        assert len(asked) >= 2
        if dead:
            assert f"vLLM at {address} died" in messages[0]

    def test_a_server_that_is_gone(self, supervise, messages):
        with server(lambda: 200) as address:
            pass
        with supervise().watching({}, [address]):
            assert wait_for(messages)

    def test_a_server_that_is_slow_is_not_dead(self, supervise, messages, monkeypatch):
        monkeypatch.setattr(module, "HEALTH_SECONDS", 0.1)
        with server(lambda: time.sleep(0.5) or 200) as address, supervise().watching({}, [address]):
            assert not wait_for(messages, 2)
