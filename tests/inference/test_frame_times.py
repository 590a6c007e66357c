"""Which times of the frames reach a model, by how it was trained."""

import json
import logging
import shutil

import pytest

from vqathinker_verl.frames import decode, positions
from vqathinker_verl.frames.spec import FrameSpec
from vqathinker_verl.inference.engines import EngineError, Sampling, open_engine
from vqathinker_verl.inference.engines.prompting import Prompting
from vqathinker_verl.inference.engines.server_engine import _model_type_by_name

FRAMES = FrameSpec(4, max_pixels=56 * 56)
EXPORTED = {"frames": {"num_frames": 4, "max_pixels": 3136}}


@pytest.fixture
def exported(tiny_model, tmp_path):
    """A function that gives the folder of an export with these facts."""

    def make(facts):
        folder = tmp_path / "exported"
        shutil.copytree(tiny_model, folder)
        (folder / "vqathinker.json").write_text(json.dumps(facts))
        return str(folder)

    return make


def seconds_per_patch(model, clip):
    prompting = Prompting(model, FRAMES)
    (seconds,) = prompting.features("Q", decode(clip, prompting.frames))["second_per_grid_ts"].tolist()
    return seconds


def test_a_model_not_exported_here_is_shown_true_times(tiny_model, clips, caplog):
    assert seconds_per_patch(str(tiny_model), clips[0]) == 1.5  # 4 frames of 3 s
    assert not caplog.records


def test_so_is_one_that_was_trained_with_them(exported, clips, caplog):
    assert seconds_per_patch(exported(EXPORTED | {"true_times": True}), clips[0]) == 1.5
    assert not caplog.records


def test_an_older_export_is_scored_as_it_was_trained_with_one_warning(exported, clips, caplog):
    with caplog.at_level(logging.WARNING):
        assert seconds_per_patch(exported(EXPORTED), clips[0]) == pytest.approx(2 / 24)
    (record,) = caplog.records
    assert "trained before frames had their true times" in record.getMessage()


def test_vllm_is_given_the_same_times_as_the_processor(exported, clips):
    prompting = Prompting(exported(EXPORTED), FRAMES)
    times = prompting.times.vllm(prompting.video(decode(clips[0], prompting.frames)))
    assert times["video_metadata"] == [{"fps": 24.0, "frames_indices": [0, 1, 2, 3], "total_num_frames": 4}]


def test_an_unknown_version_is_an_engine_error(tiny_model, monkeypatch):
    monkeypatch.setattr(positions, "version", lambda package: "9.9")
    with pytest.raises(EngineError, match=r"vllm 9\.9: how it handles the times of frames is not known"):
        open_engine(str(tiny_model), backend="transformers", sampling=Sampling(max_tokens=1))


@pytest.mark.parametrize(
    ("name", "model_type"),
    [("Qwen/Qwen2.5-VL-7B-Instruct", "qwen2_5_vl"), ("qwen2_5_vl_3b", "qwen2_5_vl"), ("Qwen3-VL-8B", ""), ("mine", "")],
)
def test_a_server_elsewhere_is_known_by_its_models_name(name, model_type):
    assert _model_type_by_name(name) == model_type
