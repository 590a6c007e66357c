"""A model that cannot be used is recognised from its files, or from the hub's answer, and never loaded."""

import io
import json
import urllib.error
from email.message import Message

import pytest
from huggingface_hub import constants

from vqathinker_verl.inference import model_folder
from vqathinker_verl.inference.model_folder import ModelError, check_model, is_run_folder

VISION = {"model_type": "qwen2_5_vl", "vision_config": {}}


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(VISION))
    (folder / "model.safetensors").touch()
    return folder


def refused(model):
    with pytest.raises(ModelError) as caught:
        check_model(str(model))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_complete_folder_passes(model):
    check_model(str(model))
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    check_model(str(model))


def test_the_tiny_model_passes(tiny_model):
    check_model(str(tiny_model))


def test_a_folder_that_is_missing():
    assert "no such folder" in refused("/no/such/model")
    assert "no such folder" in refused("mymodel")


def test_a_file(model):
    assert "this is a file" in refused(model / "config.json")


def test_no_config(model):
    (model / "config.json").unlink()
    assert "no config.json" in refused(model)


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_config_that_is_none(model, text):
    (model / "config.json").write_text(text)
    assert "config.json" in refused(model)


def test_no_weights(model):
    (model / "model.safetensors").unlink()
    assert "no weights in this folder" in refused(model)


def test_a_shard_that_is_missing(model):
    names = ["model.safetensors", "model-00002-of-00002.safetensors"]
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": dict(enumerate(names))}))
    assert "1 weight files of model.safetensors.index.json are missing, first model-00002-of-00002" in refused(model)


def test_a_text_model(model):
    (model / "config.json").write_text('{"model_type": "qwen2"}')
    assert "no vision tower" in refused(model)
    assert "model_type qwen2" in refused(model)


@pytest.mark.parametrize(
    "inside", ["", "checkpoints", "checkpoints/global_step_20", "checkpoints/global_step_20/actor"]
)
def test_a_training_run_is_not_a_model(tmp_path, inside):
    actor = tmp_path / "run" / "checkpoints" / "global_step_20" / "actor"
    actor.mkdir(parents=True)
    (actor / "model_world_size_1_rank_0.pt").touch()
    folder = tmp_path / "run" / inside
    assert is_run_folder(folder)
    assert f"vqathinker export {folder}" in refused(folder)


class TestHub:
    NAME = "org/some-model"

    @pytest.fixture(autouse=True)
    def empty_cache(self, tmp_path, monkeypatch):
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)

    @pytest.fixture
    def hub(self, monkeypatch):
        """Lets a test choose the hub's answer."""

        def answer_with(answer):
            def urlopen(request, timeout):
                assert request.full_url == f"https://huggingface.co/{self.NAME}/resolve/main/config.json"
                assert timeout < 5
                if isinstance(answer, Exception):
                    raise answer
                return io.BytesIO(json.dumps(answer).encode())

            monkeypatch.setattr(model_folder.urllib.request, "urlopen", urlopen)

        return answer_with

    def test_offline_only_the_cache_counts(self, monkeypatch, tmp_path):
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        assert "HF_HUB_OFFLINE is set" in refused(self.NAME)
        self.cache(tmp_path, VISION)
        check_model(self.NAME)

    def cache(self, folder, config):
        repository = folder / "models--org--some-model"
        snapshot = repository / "snapshots" / "abc"
        snapshot.mkdir(parents=True)
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text("abc")
        (snapshot / "config.json").write_text(json.dumps(config))
        (snapshot / "model.safetensors").touch()

    def test_a_text_model_of_the_cache(self, tmp_path):
        self.cache(tmp_path, {"model_type": "qwen2"})
        assert "no vision tower" in refused(self.NAME)

    def test_the_hub_has_it(self, hub):
        hub(VISION)
        check_model(self.NAME)

    def test_the_hub_has_a_text_model(self, hub):
        hub({"model_type": "llama"})
        assert "no vision tower" in refused(self.NAME)

    @pytest.mark.parametrize(
        ("code", "named"), [(401, "the hub answers 401"), (404, "the hub answers 404"), (403, "hf auth login")]
    )
    def test_the_hub_refuses(self, hub, code, named):
        hub(urllib.error.HTTPError("", code, "Not so", Message(), None))
        assert named in refused(self.NAME)

    def test_no_network(self, hub):
        hub(urllib.error.URLError("Name or service not known"))
        assert "the hub cannot be reached" in refused(self.NAME)
