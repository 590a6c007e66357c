"""The example that takes its reward from the service: what it sends, what it makes of the answers, and that it learns.

The service is a process of its own, with an engine that gives larger files higher scores.
"""

import asyncio
import importlib.util
import inspect
import math
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "service_reward.py"
TRL = Path(sys.prefix) / "only-trl"  # requirements/trl.txt says why it is apart

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def example(monkeypatch):
    """The example as a module, for the service at an address."""

    def load(address, token=None):
        monkeypatch.setenv("VQATHINKER_URL", address)
        if token is not None:
            monkeypatch.setenv("VQATHINKER_TOKEN", token)
        spec = importlib.util.spec_from_file_location("service_reward", EXAMPLE)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


def test_rewards_are_the_scores_of_the_videos(start_service, example):
    service = start_service("--prompt", "size", env=dict(os.environ, VQATHINKER_TOKEN="sesame"))
    module = example(service.address, token="sesame")
    words = ["crf15", "I choose crf33.", "crf51"]
    expected = [round(1 + 4 * min(1, len(module.render(word)) / 25_000), 2) for word in words]
    assert expected[0] > expected[1] > expected[2]
    completions = [words[0], [{"role": "assistant", "content": words[1]}], "no choice", words[2], "crf99"]
    rewards = module.quality_reward(completions, prompts=["encode"] * 5)
    assert rewards == [expected[0], expected[1], 0.0, expected[2], 0.0]
    # More at a time than the service takes in one batch.
    assert module.quality_reward(words * 40) == expected * 40
    assert inspect.iscoroutinefunction(module.compute_score)  # verl then calls it for all responses at a time
    row = asyncio.run(module.compute_score("d", "crf33", None, {}))
    assert row == {"score": expected[1], "quality": expected[1], "no_score": 0.0}
    row = asyncio.run(module.compute_score("d", "no choice", None))
    assert (row["score"], row["no_score"], math.isnan(row["quality"])) == (0.0, 1.0, True)


def test_a_service_that_refuses_or_is_not_there_ends_the_run(start_service, example):
    service = start_service("--prompt", "size", env=dict(os.environ, VQATHINKER_TOKEN="sesame"))
    with pytest.raises(RuntimeError, match=f"{service.address}: status 401: expected the header Authorization"):
        example(service.address).quality_reward(["crf30"])
    with pytest.raises(RuntimeError, match="is `vqathinker serve` running there"):
        example("http://127.0.0.1:9").quality_reward(["crf30"])


def test_a_busy_service_is_asked_again_and_an_unusable_video_has_no_score(example, capsys):
    answers = [(429, b'{"error": "3 requests are waiting"}'), (429, b'{"error": "3 requests are waiting"}')]
    answers += [(200, b'{"score": 2.5}'), (422, b'{"score": null, "error": "video.mp4: cannot be decoded"}')]
    asked = []

    class Busy(BaseHTTPRequestHandler):
        def do_POST(self):
            asked.append(self.rfile.read(int(self.headers["content-length"])))
            status, body = answers[len(asked) - 1]
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Retry-After", "0.01")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_): ...

    with HTTPServer(("127.0.0.1", 0), Busy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        module = example(f"http://127.0.0.1:{server.server_port}")
        assert module.quality_reward(["crf30"]) == [2.5]
        assert len(asked) == 3
        assert module.render("crf30") in asked[0]
        assert module.quality_reward(["crf30"]) == [None]
        server.shutdown()
    assert capsys.readouterr().out == "no score: video.mp4: cannot be decoded\n"


@pytest.mark.e2e
@pytest.mark.timeout(600)
def test_trl_trains_a_policy_towards_what_the_service_prefers(start_service):
    if not TRL.is_dir():
        pytest.skip("TRL is not installed; `bash tests/run.sh` installs it")
    service = start_service("--prompt", "size")
    path = os.pathsep.join(filter(None, [str(TRL), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, "VQATHINKER_URL": service.address}
    done = subprocess.run([sys.executable, EXAMPLE], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    words = done.stdout.strip().splitlines()[-1].split()
    first, last = float(words[5]), float(words[11])
    assert 0 <= first < last <= 5
    assert last > first + 1
