"""Finding a checkpoint and its run's settings; the merge itself is in tests/e2e/test_training.py."""

import json
import os

import pyarrow as pa
import pyarrow.parquet
import pytest

from vqathinker_verl.cli.main import main
from vqathinker_verl.inference import export
from vqathinker_verl.inference.engines import ModelDefaults, read_defaults
from vqathinker_verl.inference.export import ExportError, export_checkpoint, find_actor, run_config
from vqathinker_verl.prompts import QUALITY_PROMPT

CONFIG = """
data:
  frames:
    val: {num_frames: 6, max_pixels: 7056}
    true_times: true
  max_response_length: 32
  val_files: VAL
actor_rollout_ref: {rollout: {dtype: float32, val_kwargs: {temperature: 1.0, top_p: 0.9, n: 8}}}
"""


@pytest.fixture
def run(tmp_path):
    """OUTPUT_DIR of a run with two checkpoints of two workers; the shards are empty."""
    for step in (9, 10):
        actor = tmp_path / "checkpoints" / f"global_step_{step}" / "actor"
        (actor / "huggingface").mkdir(parents=True)
        (actor / "huggingface" / "config.json").write_text("{}")
        for rank in range(2):
            (actor / f"model_world_size_2_rank_{rank}.pt").touch()
    (tmp_path / "hydra" / ".hydra").mkdir(parents=True)
    (tmp_path / "hydra" / ".hydra" / "config.yaml").write_text(CONFIG.replace("VAL", str(tmp_path / "val.parquet")))
    return tmp_path


def test_a_run_gives_its_last_checkpoint_and_a_checkpoint_itself(run):
    last = run / "checkpoints" / "global_step_10" / "actor"  # 10 after 9, not before
    assert find_actor(run) == last
    assert find_actor(run / "checkpoints") == last
    earlier = run / "checkpoints" / "global_step_9"
    assert find_actor(earlier) == find_actor(earlier / "actor") == earlier / "actor"


def test_what_is_missing_is_named(run, tmp_path_factory):
    actor = find_actor(run)
    (actor / "huggingface" / "config.json").unlink()
    with pytest.raises(ExportError, match=r"no huggingface/config\.json"):
        find_actor(run)
    (actor / "model_world_size_2_rank_0.pt").unlink()
    with pytest.raises(ExportError, match="the shards of 1 of 2 ranks are missing, first 0"):
        find_actor(run)
    with pytest.raises(ExportError, match="no verl checkpoint"):
        find_actor(tmp_path_factory.mktemp("empty"))
    with pytest.raises(ExportError, match="no verl checkpoint"):
        find_actor(run / "nowhere")


def test_the_runs_frames_and_dtype_go_into_the_folder(run, monkeypatch):
    asked = []

    def merge(actor, target, dtype):
        asked.append(dtype)
        (target / "config.json").write_text("{}")

    monkeypatch.setattr(export, "_merge", merge)
    folder = export_checkpoint(run)
    assert folder == run / "checkpoints" / "global_step_10" / "huggingface_model"
    facts = json.loads((folder / "vqathinker.json").read_text())
    assert facts["checkpoint"] == "global_step_10"
    assert (facts["frames"]["num_frames"], facts["frames"]["max_pixels"]) == (6, 7056)
    assert facts["sampling"] == {"max_tokens": 32, "temperature": 1.0, "top_p": 0.9, "samples": 8}
    assert facts["prompt"] == QUALITY_PROMPT  # the validation file is gone
    assert read_defaults(str(folder)).samples == 8
    assert facts["true_times"] is True
    export_checkpoint(run, run / "rounded", dtype="bfloat16")
    (run / "hydra" / ".hydra" / "config.yaml").unlink()
    bare = export_checkpoint(run, run / "bare")
    assert not (bare / "vqathinker.json").exists()
    assert read_defaults(str(bare)) == ModelDefaults()
    assert asked == ["float32", "bfloat16", "bfloat16"]


def test_the_validations_question_goes_into_the_folder(run, monkeypatch):
    monkeypatch.setattr(export, "_merge", lambda actor, target, dtype: (target / "config.json").touch())
    rows = [{"prompt": [{"role": "user", "content": "<video>How good?"}]}] * 2
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows), run / "val.parquet")
    assert read_defaults(str(export_checkpoint(run))).prompt == "How good?"


def test_the_same_export_again_is_done_already(run, monkeypatch):
    merged = []
    monkeypatch.setattr(export, "_merge", lambda actor, target, dtype: merged.append(actor))
    assert export_checkpoint(run, run / "model") == export_checkpoint(run, run / "model") == run / "model"
    assert len(merged) == 1
    with pytest.raises(ExportError, match="exists already and is another model"):
        export_checkpoint(run / "checkpoints" / "global_step_9", run / "model")
    shard = run / "checkpoints" / "global_step_10" / "actor" / "model_world_size_2_rank_0.pt"
    os.utime(shard, ns=(1, 1))  # another training saved the same step
    with pytest.raises(ExportError, match="exists already and is another model"):
        export_checkpoint(run, run / "model")


def test_everybody_may_read_the_files_of_the_model(run, monkeypatch):
    def merge(actor, target, dtype):
        (target / "model.safetensors").touch(mode=0o600)

    monkeypatch.setattr(export, "_merge", merge)
    before = os.umask(0o022)
    try:
        folder = export_checkpoint(run)
    finally:
        os.umask(before)
    assert {oct(path.stat().st_mode & 0o777) for path in folder.iterdir()} == {"0o644"}


def test_a_folder_that_cannot_be_written_is_one_line(run, capsys):
    (run / "file").touch()
    assert main(["export", str(run), "--output-dir", str(run / "file" / "model")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("vqathinker export: ")
    assert said.count("\n") == 1


def test_a_run_from_before_the_times_were_used_is_exported_as_such(run, monkeypatch):
    path = run / "hydra" / ".hydra" / "config.yaml"
    path.write_text("".join(line for line in path.open() if "true_times" not in line))
    monkeypatch.setattr(export, "_merge", lambda actor, target, dtype: (target / "model.safetensors").touch())
    folder = export_checkpoint(run)
    assert json.loads((folder / "vqathinker.json").read_text())["true_times"] is False


def test_nothing_is_overwritten_and_no_half_is_left(run, monkeypatch, capsys):
    (run / "model").mkdir()
    assert main(["export", str(run), "--output-dir", str(run / "model")]) == 2
    assert "exists already" in capsys.readouterr().err

    def fail(actor, target, dtype):
        (target / "half.safetensors").touch()
        raise ExportError("the merger failed")

    monkeypatch.setattr(export, "_merge", fail)
    with pytest.raises(ExportError, match="the merger failed"):
        export_checkpoint(run, run / "new")
    assert not (run / "new").exists()
    assert list(run.glob(".new*")) == []


def test_a_configuration_that_is_none_of_ours_is_named(run):
    path = run / "hydra" / ".hydra" / "config.yaml"
    path.write_text("data: {}")
    with pytest.raises(ExportError, match=r"config\.yaml: expected a run's configuration"):
        run_config(find_actor(run))
