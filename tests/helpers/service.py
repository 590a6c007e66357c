"""`vqathinker serve` in a process of its own, with an engine in place of a model or with a real one."""

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

# The command with an engine in place of a model. It waits as many seconds as the question says, and scores 3.50; or the
# question is "size", and the larger the file the higher the score.
STAND_IN = """
import sys, time
from vqathinker_verl.cli.main import main
from vqathinker_verl.frames import FrameSpec
from vqathinker_verl.inference import settings
from vqathinker_verl.inference.engines import Answer

class Engine:
    frames = FrameSpec(num_frames=3)
    def generate(self, requests, *, samples=1):
        for request in requests:
            print("scoring", flush=True)
            score = 3.5
            if request.prompt == "size":
                score = 1 + 4 * min(1, request.video.stat().st_size / 25_000)
            else:
                time.sleep(float(request.prompt))
            yield Answer((f"<think>Fine.</think><answer>{score:.2f}</answer>",))
    def close(self):
        print("closed", flush=True)

settings.open_engine = lambda model, **options: Engine()
settings.usable_model = lambda model: model
sys.exit(main(["serve", "--model", "m", "--port", "0", *sys.argv[1:]]))
"""


class Service:
    """A service that was started, its address, and what it printed after that."""

    def __init__(self, *arguments, command=(sys.executable, "-c", STAND_IN), **options):
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
        self.process = subprocess.Popen([*command, *arguments], **options)
        line = self.process.stdout.readline()
        assert line.startswith("vqathinker serve: http://127.0.0.1:"), self.process.communicate()
        self.address = line.split()[2]
        self.wait_for_health()

    def wait_for_health(self):
        for _ in range(300):
            try:
                return urllib.request.urlopen(f"{self.address}/health", timeout=5).read()
            except urllib.error.URLError:
                time.sleep(0.1)
        raise AssertionError(self.process.communicate())

    def send(self, video):
        """A connection on which the answer to a request for a score will come."""
        body = json.dumps({"video": video}).encode()
        host, port = self.address.removeprefix("http://").split(":")
        connection = socket.create_connection((host, int(port)), timeout=60)
        head = f"POST /score HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        connection.sendall(f"{head}\r\n\r\n".encode() + body)
        return connection

    def ended(self, number, seconds=60):
        """Signal it: exit code, the rest of its output, its errors, and how long it took."""
        begin = time.monotonic()
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=seconds)
        return self.process.returncode, out, err, time.monotonic() - begin


@pytest.fixture
def start_service():
    """Starts services that are ended with the test."""
    started = []

    def start(*arguments, **options):
        started.append(Service(*arguments, **options))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.terminate()  # it deletes its folder
            try:
                one.process.communicate(timeout=30)
            except subprocess.TimeoutExpired:
                one.process.kill()
                one.process.communicate()


def received(connection):
    """Status and JSON of the answer on a connection."""
    data = b""
    while part := connection.recv(65536):
        data += part
        head, _, body = data.partition(b"\r\n\r\n")
        if body.endswith(b"}"):
            break
    return int(head.split()[1]), json.loads(body)
