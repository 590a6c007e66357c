"""The screen on a pseudo-terminal and without one, of a run that is recorded and of one that a launcher runs."""

import io
import json
import os
import re
import sys
import time

import pytest
from helpers.recorded_run import FACTS, finished_run, metrics_lines, start, step_data, write_metrics, write_record
from helpers.stand_in import launcher_command, start_launcher
from helpers.terminals import Terminal, set_size

from vqathinker_verl.runner import plain
from vqathinker_verl.runner.console import RunConsole
from vqathinker_verl.runner.display import RunDisplay

# What verl prints and writes in a run of six steps, in a few seconds.
TRAINING = f"""
import json, os, sys, time
for mark in ("Started a local Ray instance", "(TaskRunnerV1 pid=1) x", "actor and ref model engine initialized",
             "LLMServerManager: ['127.0.0.1:1']", "Initial validation metrics: {{}}"):
    print(mark, flush=True)
    time.sleep(0.2)
for step, data in {metrics_lines()!r}:
    with open(os.environ["VERL_FILE_LOGGER_PATH"], "a") as file:
        file.write(json.dumps({{"step": step, "data": data}}) + "\\n")
    time.sleep(0.8)
"""


def watch(folder):
    return [sys.executable, "-m", "vqathinker_verl.cli", "watch", str(folder)]


@pytest.mark.parametrize("columns", [80, 160])
def test_a_launched_run_on_a_terminal(tmp_path, columns):
    command, environment = launcher_command(tmp_path, TRAINING, facts=FACTS)
    terminal = Terminal(command, columns, environment)
    code, errors = terminal.wait()
    assert (code, errors) == (0, "")
    lines = terminal.lines
    assert max(map(len, lines)) <= columns, max(lines, key=len)
    assert "Started a local Ray instance" not in terminal.raw
    for phase in ("input checked", "Ray", "trainer process", "model on trainer", "vLLM server", "first validation"):
        assert any(re.match(rf"   ok  {phase} +\d+ s$", line) for line in lines), phase
    for step in range(1, 7):
        assert sum(line.startswith(f"    {step}  2.1") for line in lines) == 1
    assert sum(re.match(r" val \d", line) is not None for line in lines) == 4
    # Which steps are seen as the last one depends on how busy the machine is.
    assert any(re.search(r" [1-5]/6  \d+%  0:\d\d gone, about \d+:\d\d left", line) for line in lines)
    end = lines.index(next(line for line in lines if line.startswith("6 steps in")))
    assert any(line.startswith("reward ") and line.split() == ["reward", "2.120", "2.150"] for line in lines[end:])
    assert "plots/training.png" in " ".join(lines[end:])
    assert (tmp_path / "plots" / "training.png").stat().st_size > 5000


def test_a_launched_run_without_a_terminal(tmp_path, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # as CI does
    run = start_launcher(tmp_path, TRAINING, verbose=False, facts=FACTS)
    out, err = run.communicate(timeout=60)
    assert (run.returncode, err) == (0, "")
    assert "\x1b" not in out
    assert "\r" not in out
    lines = out.splitlines()
    assert max(map(len, lines)) <= plain.WIDTH
    events = lines[: lines.index("")]
    assert all(re.match(r"\d\d:\d\d:\d\d \w", line) for line in events)
    kinds = [line.split()[1] for line in events]
    assert kinds.count("step") == 6
    assert kinds.count("val") == 4
    assert kinds.count("ok") == 6
    assert kinds.count("ready") == 1
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["starts"][0]["code"] == 0
    assert record["starts"][0]["reached"].keys() == {"input", "ray", "trainer", "model", "server", "validation"}


def test_verbose_prints_what_verl_prints_and_the_end(tmp_path):
    run = start_launcher(tmp_path, TRAINING, verbose=True, facts=FACTS)
    out, _ = run.communicate(timeout=60)
    assert out.startswith("Started a local Ray instance\n(TaskRunnerV1 pid=1) x\n")
    assert "step 1/6" not in out
    assert "6 steps in" in out
    assert (tmp_path / "plots" / "training.png").exists()


def test_a_terminal_that_changes_its_size(tmp_path):
    command, environment = launcher_command(tmp_path, TRAINING, facts=FACTS)
    terminal = Terminal(command, 160, environment)
    end = time.monotonic() + 60
    while "ready after" not in terminal.raw and time.monotonic() < end:
        time.sleep(0.05)
    set_size(terminal.master, 80)
    seen = len(terminal.raw)
    code, errors = terminal.wait()
    assert (code, errors) == (0, "")
    assert "    6  2.1" in terminal.raw[seen:]


def test_a_terminal_that_takes_nothing_does_not_hold_up_the_run(tmp_path):
    """Ctrl-S: writing to the terminal blocks. verl ends all the same; only the last words have to wait."""
    body = TRAINING.replace("time.sleep(0.8)", "time.sleep(0.05)") + "open('done', 'w').close()\n"
    fill = "import os, sys, time\nos.set_blocking(1, False)\n"
    fill += "try:\n    while True: os.write(1, b'x' * 4096)\nexcept BlockingIOError: os.set_blocking(1, True)\n"
    command, environment = launcher_command(tmp_path, body.replace("'done'", repr(str(tmp_path / "done"))), facts=FACTS)
    command[-1] = fill + command[-1]
    terminal = Terminal(command, 80, environment, read=False)
    end = time.monotonic() + 60
    while not (tmp_path / "done").exists():
        assert time.monotonic() < end
        time.sleep(0.1)
    time.sleep(1)
    assert json.loads((tmp_path / "run.json").read_text())["starts"][0]["code"] == 0 or time.monotonic() < end
    terminal._reader.start()
    code, _ = terminal.wait()
    assert code == 0


class Broken(io.StringIO):
    def write(self, text):
        raise ZeroDivisionError("cannot draw")


def test_an_error_in_drawing_is_logged_and_the_run_continues(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", Broken())
    display = RunDisplay(tmp_path, FACTS, time.time(), 0, verbose=False)
    display.begin()
    (tmp_path / "metrics").mkdir()
    display._console.join(1)
    assert display._console.is_alive()  # it follows the run, for the pictures
    monkeypatch.undo()
    display.finish(0, None, draw=False)
    assert not display._console.is_alive()
    assert (
        capsys.readouterr().err.count("the screen stopped after an error, which is in train.log; the run continues")
        == 1
    )
    assert "ZeroDivisionError: cannot draw" in (tmp_path / "train.log").read_text()


def test_a_closed_pipe_ends_the_drawing_quietly(tmp_path):
    finished_run(tmp_path)
    read, write = os.pipe()
    os.close(read)
    said = []
    with os.fdopen(write, "w") as stream:
        console = RunConsole(tmp_path, 0, stream, said.append)
        console.start()
        assert console.ended.wait(10)
        console.close()
    assert said == []


def test_a_line_that_is_half_written_is_shown_when_it_is_complete(tmp_path):
    write_record(tmp_path, start(time.time()))
    line = json.dumps({"step": 1, "data": step_data(1)}) + "\n"
    write_metrics(tmp_path, "0000", [])
    stream = io.StringIO()
    console = RunConsole(tmp_path, 0, stream, pytest.fail)
    console.start()
    with (tmp_path / "metrics" / "0000.jsonl").open("a") as file:
        for part in (line[:40], line[40:]):
            file.write(part)
            file.flush()
            time.sleep(1)
    console.close()
    assert stream.getvalue().count("step 1/6 reward=2.110") == 1
