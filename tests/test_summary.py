import json

import pytest

from vqathinker_verl import cli, summary


def write_segment(folder, number, lines):
    (folder / "metrics").mkdir(exist_ok=True)
    text = "".join(json.dumps({"step": step, "data": data}) + "\n" for step, data in lines)
    (folder / "metrics" / f"{number:04d}.jsonl").write_text(text)


def step(total, **more):
    return {"timing_s/step": 2.0, **{f"reward/{name}": total for name in summary.COMPONENTS}, **more}


@pytest.fixture
def resumed(tmp_path):
    """A run that was killed in step 3 after saving step 2, and then went on."""
    write_segment(
        tmp_path, 0, [(0, {"val/demo/srcc": 0.1, "val/demo/plcc": 0.1}), (1, step(1.0)), (2, step(1.1)), (3, step(9.0))]
    )
    write_segment(tmp_path, 1, [(2, {"val/demo/srcc": 0.2, "val/demo/plcc": None}), (3, step(1.2)), (4, step(1.3))])
    return tmp_path


def test_a_step_that_was_done_again_counts_as_it_was_done_last(resumed):
    metrics = summary.merge_metrics(resumed)
    assert list(metrics) == [0, 1, 2, 3, 4]
    assert metrics[3]["reward/total"] == 1.2
    assert metrics[2] == {**step(1.1), "val/demo/srcc": 0.2, "val/demo/plcc": None}  # validated again on resume
    written = [json.loads(line) for line in (resumed / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in written] == list(metrics)


def test_a_line_cut_off_by_a_kill_is_left_out(resumed):
    path = resumed / "metrics" / "0001.jsonl"
    path.write_text(path.read_text()[:-20])
    assert list(summary.merge_metrics(resumed)) == [0, 1, 2, 3]


def test_the_table_has_first_and_last(resumed, capsys):
    assert cli.main(["summary", str(resumed)]) == 0
    lines = {line[:24].strip(): line[24:].split() for line in capsys.readouterr().out.splitlines()}
    assert lines["reward/total"] == ["1.000", "1.300"]
    assert lines["demo SRCC"] == ["0.100", "0.200"]
    assert lines["demo PLCC"] == ["0.100", "undefined"]
    assert (resumed / "plots" / "training.png").stat().st_size > 5000


def test_a_folder_without_a_run_is_said(tmp_path, capsys):
    assert cli.main(["summary", str(tmp_path)]) == 2
    assert "no training step" in capsys.readouterr().out
