"""Architectures from their config.json: published parameter counts must come out to the last one."""

import json
from functools import cache

import pytest

from vqathinker_verl.config.compose import InputError
from vqathinker_verl.plan import model as module
from vqathinker_verl.plan.model import RESTATED, Model

load_model = cache(module.load_model)

# As the checkpoints' own safetensors indices count them.
KNOWN = {
    "Qwen/Qwen2.5-VL-7B-Instruct": 8_292_166_656,
    "Qwen/Qwen2.5-VL-3B-Instruct": 3_754_622_976,
    "Qwen/Qwen3-VL-8B-Instruct": 8_767_123_696,
    "Qwen/Qwen3-VL-2B-Instruct": 2_127_532_032,
    "OpenGVLab/InternVL3-8B-hf": 7_944_373_760,
}


@pytest.mark.parametrize(("path", "parameters"), KNOWN.items())
def test_parameters_are_the_published_ones(path, parameters):
    assert load_model(path).parameters == parameters


def test_every_restated_model_is_checked_here():
    assert {file.stem for file in RESTATED.glob("*.json")} == {path.rpartition("/")[2] for path in KNOWN}


def test_blocks_are_those_that_fsdp_gathers():
    model = load_model("Qwen/Qwen2.5-VL-7B-Instruct")
    # A language block: queries 3584 x 3584 + 3584, keys and values 3584 x 512 + 512 each, output 3584 x 3584,
    # MLP 3 x 3584 x 18944, two norms of 3584.
    language = 12_848_640 + 2 * 1_835_520 + 12_845_056 + 203_685_888 + 7_168
    # A vision block: qkv 1280 x 3840 + 3840, output 1280 x 1280 + 1280, MLP 3 x 1280 x 3420 + 3420 + 3420 + 1280,
    # two norms of 1280.
    vision = 4_919_040 + 1_639_680 + 13_140_920 + 2_560
    assert sorted(model.blocks) == [vision] * 32 + [language] * 28


def test_adapter_on_the_language_models_linear_layers():
    model = load_model("Qwen/Qwen2.5-VL-7B-Instruct")
    # Inputs + outputs of q 7168, k and v 4096 each, o 7168, and three of the MLP with 22528; 28 blocks; rank 64.
    by_hand = 64 * 28 * (7168 + 2 * 4096 + 7168 + 3 * 22528)
    assert model.lora_parameters(64, ".*visual.*") == by_hand
    assert model.lora_parameters(64, None) > by_hand


def test_a_local_config_wins(tmp_path):
    values = json.loads((RESTATED / "Qwen2.5-VL-3B-Instruct.json").read_text())
    values["text_config"]["num_hidden_layers"] = 1
    folder = tmp_path / "Qwen2.5-VL-3B-Instruct"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(values))
    model = load_model(str(folder))
    assert model.language.layers == 1
    assert model.source == str(folder / "config.json")


def test_an_unknown_model_is_named_with_what_to_do():
    with pytest.raises(InputError, match=r"someone/else: no config\.json.*set MODEL_PATH"):
        load_model("someone/else")
    with pytest.raises(InputError, match="model_type 'llama'"):
        Model({"model_type": "llama"}, "here")
