import json
import signal
import sys
import threading
import time

import pytest
from helpers.recorded_run import finished_run, metrics_lines, start, write_metrics, write_record
from helpers.terminals import Terminal

from vqathinker_verl.cli import main as cli
from vqathinker_verl.cli import watch as watch_cli


@pytest.mark.parametrize("columns", [80, 160])
def test_a_finished_run_on_a_terminal(tmp_path, columns):
    terminal = Terminal([sys.executable, "-m", "vqathinker_verl.cli", "watch", str(finished_run(tmp_path))], columns)
    assert terminal.wait() == (0, "")
    lines = terminal.lines
    assert max(map(len, lines)) <= max(columns, len(str(tmp_path)) + 35), max(lines, key=len)
    assert sum(line.startswith("    6  2.16") for line in lines) == 1
    assert any(line.startswith("6 steps in 8:15") for line in lines)
    assert "Ctrl-C stops" not in terminal.raw  # not the run, if anything


def test_a_finished_run_without_a_terminal(tmp_path, capsys):
    assert cli.main(["watch", str(finished_run(tmp_path))]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "step 6/6 reward=2.160" in out
    assert "6 steps in 8:15" in out
    assert max(map(len, out.splitlines())) <= 160


def test_a_run_that_is_under_way_is_followed_to_its_end(tmp_path, capsys):
    began = time.time() - 200
    lines = metrics_lines()
    write_metrics(tmp_path, "0000", lines[:3])
    write_record(tmp_path, start(began))
    codes = []
    watching = threading.Thread(target=lambda: codes.append(cli.main(["watch", str(tmp_path)])))
    watching.start()
    time.sleep(1)
    write_metrics(tmp_path, "0000", lines)
    time.sleep(1)
    assert codes == []
    write_record(tmp_path, start(began, ended=time.time(), code=0))
    watching.join(20)
    assert codes == [0]
    out = capsys.readouterr().out
    assert [out.count(f"step {step}/6 ") for step in range(1, 7)] == [1] * 6


def test_a_run_that_failed(tmp_path, capsys):
    began = time.time() - 200
    write_record(tmp_path, start(began, ended=began + 90, code=1, reason="ValueError: broken:\nbecause"))
    assert cli.main(["watch", str(tmp_path)]) == 1
    assert capsys.readouterr().err == (
        "vqathinker watch: the run stopped with exit code 1. Reason: ValueError: broken:\nbecause\n"
        f"vqathinker watch: log: {tmp_path}/train.log\n"
    )


def test_a_run_whose_launcher_was_killed(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(watch_cli, "SILENT_SECONDS", 1.0)
    write_record(tmp_path, start(time.time() - 200))
    assert cli.main(["watch", str(tmp_path)]) == 1
    assert "the run has written nothing for" in capsys.readouterr().err


def test_a_folder_without_a_run(tmp_path, capsys):
    assert cli.main(["watch", str(tmp_path)]) == 2
    assert "no run.json; expected the OUTPUT_DIR of a run" in capsys.readouterr().err
    (tmp_path / "run.json").write_text(json.dumps([1, 2]))
    assert cli.main(["watch", str(tmp_path)]) == 2


def test_ctrl_c_leaves_the_terminal_as_it_was_and_says_nothing_of_the_run(tmp_path):
    write_metrics(tmp_path, "0000", metrics_lines(3))
    write_record(tmp_path, start(time.time() - 200))
    terminal = Terminal([sys.executable, "-m", "vqathinker_verl.cli", "watch", str(tmp_path)], 80)
    end = time.monotonic() + 60
    while "3/6" not in terminal.raw:
        assert time.monotonic() < end
        time.sleep(0.1)
    assert terminal.raw.count("\x1b[?25l") == 1  # the cursor is hidden
    (tmp_path / "memory.jsonl").write_text("{}\n")
    terminal.process.send_signal(signal.SIGINT)
    code, errors = terminal.wait()
    assert code == 130
    assert errors == "vqathinker: interrupted\n"
    assert terminal.raw.rindex("\x1b[?25h") > terminal.raw.rindex("\x1b[?25l")
