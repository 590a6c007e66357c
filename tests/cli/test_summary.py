import json
import re

import pytest
from helpers.recorded_run import finished_run, step_data, validation_data, write_metrics

from vqathinker_verl.cli import main as cli
from vqathinker_verl.runner.metrics_log import merge_metrics


def step(total, **more):
    return step_data(1, **{"timing_s/step": 2.0, "reward/overall": total, **more})


@pytest.fixture
def resumed(tmp_path):
    """A run that was killed in step 3 after saving step 2, and then resumed."""
    first = {"val/demo/srcc": 0.1, "val/demo/plcc_raw": 0.1}
    again = {"val/demo/srcc": 0.2, "val/demo/plcc_raw": None}
    write_metrics(tmp_path, "0000", [(0, first), (1, step(1.0)), (2, step(1.1)), (3, step(9.0))])
    write_metrics(tmp_path, "0001", [(2, again), (3, step(1.2)), (4, step(1.3))])
    return tmp_path


def table(text):
    """{first words of a line: the values after them}."""
    return {cells[0]: cells[1:] for line in text.splitlines() if (cells := re.split(r"\s{2,}", line.strip()))}


def test_a_repeated_step_counts_with_its_last_values(resumed):
    metrics = merge_metrics(resumed)
    assert list(metrics) == [0, 1, 2, 3, 4]
    assert metrics[3]["reward/overall"] == 1.2
    assert metrics[2] == {**step(1.1), "val/demo/srcc": 0.2, "val/demo/plcc_raw": None}  # validated again on resume
    written = [json.loads(line) for line in (resumed / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in written] == list(metrics)


def test_a_line_cut_off_by_a_kill_is_left_out(resumed):
    path = resumed / "metrics" / "0001.jsonl"
    path.write_text(path.read_text()[:-20])
    assert list(merge_metrics(resumed)) == [0, 1, 2, 3]


def test_the_table_has_first_and_last_as_means_of_three_steps(resumed, capsys):
    assert cli.main(["summary", str(resumed)]) == 0
    rows = table(capsys.readouterr().out)
    assert rows["reward"] == ["1.100", "1.200"]
    assert rows["answers without a score"] == ["1.0%", "1.0%"]  # M7
    assert (resumed / "plots" / "training.png").stat().st_size > 5000


def test_an_undefined_correlation_is_reported(resumed, capsys):
    cli.main(["summary", str(resumed), "--no-plots"])
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("demo ")]
    assert [line[1:4] for line in lines] == [["0", "0.100", "0.100"], ["2", "0.200", "undefined"]]
    assert not (resumed / "plots").exists()


def test_fewer_than_three_steps_are_not_called_three(tmp_path, capsys):
    write_metrics(tmp_path, "0000", [(1, step(1.0)), (2, step(2.0))])
    cli.main(["summary", str(tmp_path), "--no-plots"])
    out = capsys.readouterr().out
    assert "first 2 steps" in out
    assert table(out)["reward"] == ["1.500", "1.500"]


def test_every_validation_is_there_and_the_best_is_marked(tmp_path, capsys):
    assert cli.main(["summary", str(finished_run(tmp_path))]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("demo ")]
    assert [row[1:3] for row in rows] == [["0", "0.033"], ["2", "0.794"], ["4", "0.766"], ["6", "0.813"]]
    assert [row[-1] == "best" for row in rows] == [False, False, False, True]


def test_several_data_sources_are_counted_by_their_mean(tmp_path, capsys):
    def both(first, second):
        return {**validation_data(first, "A"), **validation_data(second, "B")}

    write_metrics(
        tmp_path,
        "0000",
        [(0, both(0.1, 0.2)), (1, {**step(1.0), **both(0.9, 0.3)}), (2, {**step(1.0), **both(0.5, 0.4)})],
    )
    cli.main(["summary", str(tmp_path), "--no-plots"])
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if re.match(r"(mean|A|B) ", line)]
    assert [row[:3] for row in rows if row[0] == "mean"] == [
        ["mean", "0", "0.150"],
        ["mean", "1", "0.600"],
        ["mean", "2", "0.450"],
    ]
    assert [row[:2] for row in rows if row[0] == "A"] == [["A", "1"], ["A", "2"]]  # of the best and the last
    assert [row[1] for row in rows if row[-1] == "best"] == ["1"]


def test_time_memory_failed_answers_and_chance(tmp_path, capsys):
    finished_run(tmp_path)
    failed = step(1.0, **{"rollout/total_failed_responses": 4.0})
    write_metrics(tmp_path, "0000", [(0, validation_data(0.1)), (1, failed)])
    cli.main(["summary", str(tmp_path), "--no-plots"])
    out = capsys.readouterr().out
    assert "1 of 6 steps in 8:15; 2.0 s per step (median); peak memory 9.2 GiB" in out
    assert "4 answers failed" in out
    assert "With 42 videos, an SRCC between -0.31 and 0.31 can be chance." in out


def test_the_next_commands_have_their_paths(tmp_path, capsys, monkeypatch):
    folder = finished_run(tmp_path / "my run")
    monkeypatch.chdir(tmp_path)
    cli.main(["summary", str(folder), "--no-plots"])
    commands = [line.strip() for line in capsys.readouterr().out.splitlines() if line.startswith("  vqathinker")]
    assert commands == [
        "vqathinker export 'my run' --step 6 --output-dir 'my run/model'",
        "vqathinker evaluate --model 'my run/model' --labels '/data/my videos/val.parquet' "
        "--output-dir 'my run/report'",
    ]


def test_the_best_step_without_a_checkpoint_is_reported(tmp_path, capsys):
    folder = finished_run(tmp_path)
    (folder / "checkpoints" / "global_step_6" / "actor").rmdir()
    cli.main(["summary", str(folder), "--no-plots"])
    out = capsys.readouterr().out
    assert "the best validation, at step 6, has no checkpoint" in out
    assert "--step 4" in out
    (folder / "checkpoints" / "global_step_4" / "actor").rmdir()
    cli.main(["summary", str(folder), "--no-plots"])
    out = capsys.readouterr().out
    assert "no checkpoint was saved" in out
    assert "export" not in out.partition("no checkpoint")[0]


@pytest.mark.parametrize("make", [lambda folder: None, lambda folder: (folder / "metrics").mkdir()])
def test_a_folder_without_a_run_is_reported(tmp_path, capsys, make):
    make(tmp_path)
    assert cli.main(["summary", str(tmp_path)]) == 2
    assert re.search("no training step|no metrics folder", "".join(capsys.readouterr()))
    assert cli.main(["summary", str(tmp_path / "nowhere")]) == 2
