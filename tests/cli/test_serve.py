"""`vqathinker serve` as a process of its own: start, signals, exit codes; and what it refuses before it starts."""

import os
import signal
import socket
import sys
import time
import urllib.error
import urllib.request

import pytest
from helpers.service import received

from vqathinker_verl.cli.main import main

pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_finishes_what_is_being_scored_and_ends_with_0(start_service, clips, tmp_path, number):
    roots = ["--video-root", str(clips[0].parent)]
    service = start_service("--prompt", "2", "--batch-size", "1", *roots, env=dict(os.environ, TMPDIR=str(tmp_path)))
    first = service.send(clips[0].name)
    assert service.process.stdout.readline() == "scoring\n"
    second = service.send(clips[1].name)
    time.sleep(0.3)  # for it to be waiting
    code, out, err, _ = service.ended(number)
    assert (code, out) == (0, "closed\n"), err
    assert err == ""
    status, record = received(first)
    assert (status, record["score"], record["video"]) == (200, 3.5, clips[0].name)
    assert received(second) == (503, {"error": "the service is shutting down"})
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_finished_in_time_is_left_with_1(start_service, clips):
    service = start_service("--prompt", "120", "--grace", "1", "--video-root", str(clips[0].parent))
    connection = service.send(clips[0].name)  # a caller that hangs up would not be scored
    assert service.process.stdout.readline() == "scoring\n"
    code, _, err, seconds = service.ended(signal.SIGTERM)
    assert code == 1
    assert "vqathinker serve: stopped; a video was still being decoded or scored" in err
    assert "Traceback" not in err
    assert seconds < 60
    assert received(connection) == (503, {"error": "the service is shutting down"})


def test_a_token_of_the_environment_and_one_of_a_file(start_service, tmp_path):
    (tmp_path / "token").write_text("from-file\n")
    for arguments, token in (([], "from-environment"), (["--token-file", str(tmp_path / "token")], "from-file")):
        service = start_service(*arguments, env=dict(os.environ, VQATHINKER_TOKEN="from-environment"))
        request = urllib.request.Request(f"{service.address}/metrics", headers={"Authorization": f"Bearer {token}"})
        assert urllib.request.urlopen(request, timeout=30).status == 200
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(f"{service.address}/metrics", timeout=30)
        assert service.ended(signal.SIGTERM)[0] == 0


@pytest.fixture
def refused(monkeypatch, capsys, told):
    """Calls the command, which must not start: its message."""
    told(lambda *_: pytest.fail("a model was asked"))
    monkeypatch.delenv("VQATHINKER_TOKEN", raising=False)

    def call(*arguments):
        assert main(["serve", "--model", "m", *arguments]) == 2
        return capsys.readouterr().err

    return call


def test_another_address_needs_a_token(refused, monkeypatch):
    for host in ("192.0.2.1", "::", "example.org", ""):
        assert f"--host {host}: other machines could use the service; set a token" in refused("--host", host)
    monkeypatch.setenv("VQATHINKER_TOKEN", "sesame")
    assert refused("--host", "192.0.2.1", "--port", "0").startswith("vqathinker serve: 192.0.2.1:0: Cannot assign")
    monkeypatch.setenv("VQATHINKER_TOKEN", "")
    assert "set a token" in refused("--host", "192.0.2.1")


def test_a_taken_port_is_found_before_the_model_is_loaded(refused):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refused("--port", str(port))
    assert said == (
        f"vqathinker serve: 127.0.0.1:{port}: Address already in use; expected a free port (--port) of this machine "
        "(--host)\n"
    )
    assert "--port: expected a number from 0 to 65535, got 70000" in refused("--port", "70000")


def test_wrong_options_are_one_line(refused, tmp_path):
    (tmp_path / "empty").write_text("\n")
    for arguments, said in (
        (["--token-file", str(tmp_path / "empty")], f"--token-file {tmp_path}/empty: empty; expected a token"),
        (["--token-file", str(tmp_path / "none")], "No such file or directory"),
        (["--video-root", str(tmp_path / "none")], f"--video-root {tmp_path}/none: no folder"),
        (["--max-queue", "0"], "--max-queue: expected at least 1"),
        (["--grace", "0"], "--grace: expected at least 1"),
        (["--scoring", "mean"], "a number of samples above 1"),
    ):
        message = refused(*arguments, "--port", "0")
        assert said in message
        assert message.count("\n") == 1


@pytest.mark.parametrize("module", ["fastapi", "uvicorn", "prometheus_client", "python_multipart"])
def test_without_its_packages_the_command_to_install_them_is_named(monkeypatch, capsys, module):
    monkeypatch.setitem(sys.modules, module, None)
    assert main(["serve", "--model", "m"]) == 2
    said = capsys.readouterr().err
    assert said == f"vqathinker serve: needs {module}; install it with: pip install 'vqathinker-verl[serve]'\n"
