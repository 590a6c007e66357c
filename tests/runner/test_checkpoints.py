import pytest
from helpers.recorded_run import finished_run, metrics_lines, step_data, validation_data, write_metrics

from vqathinker_verl.cli import export as export_cli
from vqathinker_verl.cli import main as cli
from vqathinker_verl.runner.checkpoints import NoCheckpointError, best_checkpoint, checkpoint_of, saved_steps


@pytest.fixture
def run(tmp_path):
    """Checkpoints of steps 4 and 6; SRCC .033, .794, .766, .813 at steps 0, 2, 4, 6."""
    return finished_run(tmp_path)


def test_the_checkpoint_with_the_highest_srcc(run):
    assert saved_steps(run) == [4, 6]
    assert best_checkpoint(run) == (run / "checkpoints" / "global_step_6", "step 6, held-out SRCC 0.813")


def test_a_better_step_without_a_checkpoint_is_said(run):
    (run / "checkpoints" / "global_step_6" / "actor").rmdir()
    folder, said = best_checkpoint(run)
    assert folder.name == "global_step_4"
    assert said == "step 4, held-out SRCC 0.766; the best validation (step 6, SRCC 0.813) has no checkpoint"


def test_the_mean_over_the_data_sources_decides(run):
    lines = [
        (4, {**step_data(4), **validation_data(0.9, "A"), **validation_data(0.1, "B")}),
        (6, {**step_data(6), **validation_data(0.6, "A"), **validation_data(0.6, "B")}),
    ]
    write_metrics(run, "0000", lines)
    assert best_checkpoint(run)[0].name == "global_step_6"


def test_an_undefined_srcc_is_not_the_best(run):
    lines = [(4, {**step_data(4), **validation_data(0.1)}), (6, {**step_data(6), **validation_data(None)})]
    write_metrics(run, "0000", lines)
    assert best_checkpoint(run)[0].name == "global_step_4"


def test_without_a_validation_there_is_no_best(run):
    write_metrics(run, "0000", [(step, data) for step, data in metrics_lines() if step not in (4, 6)])
    with pytest.raises(NoCheckpointError, match=r"no validation with an SRCC has a checkpoint .*: 4, 6"):
        best_checkpoint(run)


def test_the_checkpoint_of_a_step(run):
    assert checkpoint_of(run, 4) == run / "checkpoints" / "global_step_4"
    with pytest.raises(NoCheckpointError, match="no checkpoint of step 5; steps with a checkpoint: 4, 6"):
        checkpoint_of(run, 5)


def test_export_takes_them(run, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(export_cli, "export_checkpoint", lambda path, output, **_: asked.append(path) or output)
    assert cli.main(["export", str(run), "--best", "--output-dir", str(run / "model")]) == 0
    assert cli.main(["export", str(run), "--step", "4", "--output-dir", str(run / "model")]) == 0
    assert cli.main(["export", str(run), "--output-dir", str(run / "model")]) == 0
    assert asked == [run / "checkpoints" / "global_step_6", run / "checkpoints" / "global_step_4", run]
    assert capsys.readouterr().err == "vqathinker export: step 6, held-out SRCC 0.813\n"


@pytest.mark.parametrize("arguments", [["--step", "5"], ["--best"]])
def test_export_of_what_is_not_there_is_one_line(tmp_path, capsys, arguments):
    assert cli.main(["export", str(tmp_path), *arguments]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_export_takes_one_of_the_two(run, capsys):
    with pytest.raises(SystemExit) as error:
        cli.main(["export", str(run), "--best", "--step", "4"])
    assert error.value.code == 2
    assert "not allowed with argument" in capsys.readouterr().err
