import itertools
import time

import pytest
from helpers.recorded_run import (
    FACTS,
    finished_run,
    start,
    step_data,
    validation_data,
    write_metrics,
    write_record,
    write_rollouts,
)

from vqathinker_verl.runner import plain
from vqathinker_verl.runner.events import RunReader, Validated
from vqathinker_verl.runner.screen import Screen, validation_lines

WIDTHS = (80, 100, 120, 160, 200)


def shown(folder, width, first=0):
    """History and pinned part of all that is in the folder."""
    reader = RunReader(folder, first)
    screen = Screen("out", reader.state)
    history = [line for event in reader.poll() for line in screen.lines(event, width)]
    return [line.plain for line in history], [line.plain for line in screen.pinned(width)], [*history]


@pytest.fixture
def running(tmp_path):
    """Step 3 of 6 is done, step 4 is sampled."""
    lines = [
        (0, validation_data(0.033)),
        (1, step_data(1)),
        (2, {**step_data(2), **validation_data(0.794), "timing_s/testing": 20.0}),
    ]
    write_metrics(tmp_path, "0000", [*lines, (3, step_data(3, **{"actor/kl_loss": 0.63}))])
    write_record(tmp_path, start(time.time() - 204))
    write_rollouts(tmp_path, 4, "<think>It looks very flickering</think><answer>2.30</answer>")
    (tmp_path / "memory.jsonl").write_text('{"bytes": 9878424780}\n')
    return tmp_path


@pytest.mark.parametrize("width", WIDTHS)
def test_no_line_is_wider_than_the_terminal(running, width):
    history, pinned, texts = shown(running, width)
    assert max(len(line) for line in history + pinned) <= width
    assert max(text.cell_len for text in texts) <= width


def test_wider_terminals_show_more_columns(running):
    headers = []
    for width in WIDTHS:
        history, *_ = shown(running, width)
        headers.append(next(line for line in history if line.startswith(" step")).split())
    assert headers[0] == "step reward regr rank temp format SRCC spread KL no-score tokens s".split()
    assert all(set(narrow) <= set(wide) for narrow, wide in itertools.pairwise(headers))
    assert {"won", "pairs", "grad", "entropy", "lr"} <= set(headers[-1])
    assert headers[-1][-5:] == "time: gen, old, ref, upd".split()


def test_a_step_is_one_line_with_its_values_under_their_titles(running):
    history, *_ = shown(running, 80)
    header = next(line for line in history if line.startswith(" step"))
    row = next(line for line in history if line.startswith("    2 "))
    for title, value in [("reward", "2.120"), ("SRCC", "0.50"), ("KL", "0.10"), ("no-score", "1.0%"), ("s", "9.4")]:
        end = header.index(f" {title} ") + 1 + len(title)
        assert row[:end].endswith(value), (title, row)


def test_trouble_is_marked_and_explained_once(running, tmp_path):
    history, *_ = shown(running, 80)
    row = next(line for line in history if line.startswith("    3 "))
    assert " 0.63!" in row
    assert [line for line in history if line.startswith("     ! ")] == [
        "     ! step 3: KL 0.63: the model has moved far from the reference model"
    ]
    lines = [
        (number, step_data(number, **{"actor/kl_loss": kl})) for number, kl in ((1, 0.6), (2, 0.7), (3, 0.1), (4, 0.8))
    ]
    write_metrics(tmp_path, "0000", lines)
    history, *_ = shown(tmp_path, 80)
    explained = [line for line in history if line.startswith("     ! ")]
    assert [line.split()[2] for line in explained] == ["1:", "4:"]  # not again while it lasts


def test_the_header_says_what_will_run(running):
    history, *_ = shown(running, 80)
    text = " ".join(" ".join(history[:9]).split())
    for name in ("title", "model", "data", "steps", "batch", "device"):
        assert FACTS[name] in text
    assert "folder out, from the beginning; log: train.log; Ctrl-C stops the run" in text


def test_the_pinned_part_has_progress_time_trend_memory_and_an_answer(running):
    _, pinned, _ = shown(running, 100)
    text = "\n".join(pinned)
    assert "3/6  50%  3:24 gone, about 1:08 left (2 validations)" in text  # 3 x 9.4 + 2 x 20
    assert "2.12 -> 2.12" in text  # of three steps
    assert "val SRCC 0.033 -> 0.794 (best)" in text
    assert "RAM 9.2 GiB" in text
    assert "step 4: updating, then save and validate" in text
    assert pinned[-1] == ' answer: "It looks very flickering" 2.30, MOS 1.20, reward 1.96'


def test_rollouts_of_an_earlier_start_are_not_taken_for_those_of_this_one(running):
    write_record(running, start(time.time() + 5))
    _, pinned, _ = shown(running, 80)
    assert pinned[-1].strip() == "step 4: sampling"


def test_what_a_model_writes_does_not_steer_the_terminal(running):
    hostile = "<think>\x1b[2J\x1b]0;title\x07 [bold]worse[/bold]\r\n 很差的视频质量 \u202e " + "x" * 500 + "</think>"
    write_rollouts(running, 4, hostile, pred_mos=None)
    for width in (80, 160):
        _, pinned, _ = shown(running, width)
        (line,) = [line for line in pinned if "answer:" in line]
        assert line.isprintable()
        assert "[bold]worse[/bold]" in line
        assert line.endswith('" no score, MOS 1.20, reward 1.96')


def test_start_up_shows_the_phase_under_way_and_the_usual_times(tmp_path):
    now = time.time()
    first = start(now - 900, ended=now - 500, code=1)
    under_way = start(now - 60, "0001")
    under_way["reached"] = {"input": now - 59, "ray": now - 45, "trainer": now - 21}
    write_record(tmp_path, first, under_way)
    history, pinned, _ = shown(tmp_path, 80, first=1)
    assert [line.split() for line in history if line.startswith("   ok")] == [
        ["ok", "input", "checked", "1", "s"],
        ["ok", "Ray", "14", "s"],
        ["ok", "trainer", "process", "24", "s"],
    ]
    assert "model on trainer" in pinned[0]
    assert "21 s" in pinned[0]
    assert pinned[0].endswith("usually 15 s")
    assert pinned[1].split() == [*"..  vLLM server usually 37 s".split()]
    assert pinned[-1].strip() == "starting for 1:00, usually 1:54"


def test_without_an_earlier_start_or_a_first_validation(tmp_path):
    now = time.time()
    write_record(tmp_path, {**start(now - 5), "reached": {}}, facts={**FACTS, "first_validation": False})
    _, pinned, _ = shown(tmp_path, 80)
    assert "usually" not in "".join(pinned)
    assert not any("validation" in line for line in pinned)
    write_record(tmp_path, start(now - 200), facts={**FACTS, "first_validation": False})
    history, *_ = shown(tmp_path, 80)
    assert [line.split()[1:3] for line in history[-3:-1]] == [["vLLM", "server"], ["training", "loop"]]
    assert history[-1] == " ready after 1:54"


def test_the_first_metrics_end_the_start_up_before_the_log_line(tmp_path):
    """Ray passes the workers' output on with a delay."""
    under_way = start(time.time() - 120)
    del under_way["reached"]["validation"]
    write_record(tmp_path, under_way)
    write_metrics(tmp_path, "0000", [(0, validation_data(0.033))])
    history, pinned, _ = shown(tmp_path, 80)
    assert [line.split()[0] for line in history[-3:]] == ["ok", "ready", "val"]
    assert "0/6" in "".join(pinned)


def test_a_validation_of_one_source(running):
    history, *_ = shown(running, 160)
    first, second = [line for line in history if line.startswith(" val")]
    rest = "PLCC raw 0.876  KRCC 0.711  RMSE raw 0.586  no score 1.2%  42 videos"
    assert first == f" val 0  demo  SRCC 0.033 (first)  {rest}"
    assert second == f" val 2  demo  SRCC 0.794 (+0.761, best)  {rest}  20 s"


def test_a_validation_of_several_sources_begins_with_their_mean():
    data = {**validation_data(0.8, "LSVQ"), **validation_data(0.6, "KoNViD"), "val/failed_responses": 4.0}
    event = Validated(20, data, best=False, earlier=(10, 0.75))
    for width in WIDTHS:
        lines = [line.plain for line in validation_lines(event, width)]
        assert all(len(line) <= width for line in lines)
        assert lines[0].startswith(" val 20  mean  SRCC 0.700 (best 0.750 at step 10)")
        assert "! 4 answers failed" in lines[0]
        assert [line.split()[0] for line in lines[1:]] == ["KoNViD", "LSVQ"]


def test_plcc_and_rmse_are_the_raw_ones_also_in_a_run_that_logs_both():
    fitted = {"val/demo/plcc": 0.99, "val/demo/rmse": 0.1}
    data = {**validation_data(0.8), **fitted, "val/demo/plcc_raw": 0.5, "val/demo/rmse_raw": 0.7}
    (line,) = validation_lines(Validated(1, data, True, None), 160)
    assert "PLCC raw 0.500  KRCC 0.711  RMSE raw 0.700" in line.plain


def test_an_undefined_correlation_is_a_dash_and_not_the_best(tmp_path):
    write_metrics(tmp_path, "0000", [(0, validation_data(None)), (1, {**step_data(1), **validation_data(0.2)})])
    write_record(tmp_path, start(time.time() - 200))
    history, *_ = shown(tmp_path, 80)
    assert " val 0  demo  SRCC -  " in history[-4] + history[-3]
    assert any("SRCC 0.200 (first)" in line for line in history)


def test_time_left_counts_steps_validations_and_saves(tmp_path):
    finished_run(tmp_path)
    reader = RunReader(tmp_path)
    reader.poll()
    state = reader.state
    assert state.seconds_left() == 0
    state.last_step = 3
    # Validations after 4 and 6, saves after 4 and the last step.
    assert state.seconds_left() == pytest.approx(3 * 9.4 - 0 + 2 * 21 + 2 * 0.5, abs=0.6)
    state.record.facts.update(test_freq=0, save_freq=0)
    assert state.seconds_left() == pytest.approx(3 * 9.4, abs=0.6)


@pytest.mark.parametrize("now", [True, False])
def test_plain_lines_have_at_most_160_characters(running, now):
    long = {**FACTS, "model": "/a" * 200}
    write_record(running, start(time.time() - 204), facts=long)
    reader = RunReader(running)
    lines = [line for event in reader.poll() for line in plain.lines(event, reader.state, "out", now=now)]
    assert max(map(len, lines)) == plain.WIDTH
    assert all(line.isprintable() for line in lines)
    said = [line[9:] if now else line for line in lines]
    assert said[0] == "start out, from the beginning; log out/train.log"
    assert "ready after 114 s" in said
    assert any(line.startswith("val 2 demo srcc=0.794 plcc_raw=0.876 krcc=0.711") for line in said)
    assert any(line.startswith("step 2/6 reward=2.120 regr=0.320 rank=0.720 temp=0.120 format=0.950") for line in said)
    assert "warning: step 3: KL 0.63: the model has moved far from the reference model" in said


def test_a_start_shows_its_own_steps_and_knows_those_of_earlier_ones(tmp_path):
    now = time.time()
    write_metrics(
        tmp_path, "0000", [(0, validation_data(0.9)), (1, step_data(1)), (2, step_data(2)), (3, step_data(3))]
    )
    write_metrics(tmp_path, "0001", [(2, validation_data(0.5)), (3, step_data(3))])
    write_record(tmp_path, start(now - 900), start(now - 200, "0001", resumed=2))
    history, *_ = shown(tmp_path, 80, first=1)
    assert any("resumes after step 2" in line for line in history)
    assert [line.split()[0] for line in history if line[:5].strip().isdigit()] == ["3"]
    assert any("SRCC 0.500 (best 0.900 at step 0)" in line for line in history)
    watched, *_ = shown(tmp_path, 80)
    assert [line.split()[0] for line in watched if line[:5].strip().isdigit()] == ["1", "2", "3", "3"]
