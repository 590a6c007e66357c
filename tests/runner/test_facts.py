import json
import struct

import pandas
import pytest

from vqathinker_verl.config import CONFIG_DIR
from vqathinker_verl.config.compose import composed
from vqathinker_verl.runner import facts


@pytest.fixture
def config(tmp_path):
    """As the preflight composes it; model and label files are there."""
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps({"model_type": "qwen2_5_vl"}))
    table = {
        "__metadata__": {"format": "pt"},
        "a": {"dtype": "F32", "shape": [1000, 500], "data_offsets": [0, 2000000]},
        "b": {"dtype": "F32", "shape": [70_000], "data_offsets": [0, 280000]},
    }
    header = json.dumps(table).encode()
    (model / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    for split, labels in (("train", [1.2, 3.4, 4.8, 2.0]), ("val", [2.5, 1.5])):
        rows = [{"data_source": "demo", "reward_model": {"style": "rule", "ground_truth": mos}} for mos in labels]
        pandas.DataFrame(rows).to_parquet(tmp_path / f"{split}.parquet")
    return composed(
        CONFIG_DIR,
        "vqathinker",
        [
            "platform=cpu",
            "experiment=demo",
            f"data.train_files={tmp_path}/train.parquet",
            f"data.val_files=[{tmp_path}/val.parquet]",
            "data.train_batch_size=2",
            "trainer.total_training_steps=null",
            "trainer.total_epochs=3",
            "trainer.test_freq=10",
            "trainer.save_freq=-1",
            f"actor_rollout_ref.model.path={model}",
        ],
    )


def test_what_will_run(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    known = facts.facts_of(config)
    assert known["model"] == "model: qwen2_5_vl, 0.57 M parameters, vision tower frozen"
    assert known["data"] == "4 training, 2 validation videos; demo; MOS 1.20-4.80"
    assert known["steps"] == "6; validation every 10, checkpoint never"
    assert known["batch"] == "2 videos x (8 answers + 4 to a perturbed copy)"
    assert "CPU cores" in known["device"]
    assert (known["total_steps"], known["test_freq"], known["save_freq"]) == (6, 10, 0)
    assert known["val_files"] == [str(tmp_path / "val.parquet")]
    assert json.loads(json.dumps(known)) == known


def test_a_model_of_the_hub_is_named(config):
    config.actor_rollout_ref.model.path = "Qwen/Qwen2.5-VL-7B-Instruct"
    config.actor_rollout_ref.actor.freeze_vision_tower = False
    assert facts.facts_of(config)["model"] == "Qwen/Qwen2.5-VL-7B-Instruct"


def test_gpus_and_nodes(config, monkeypatch):
    monkeypatch.setattr(facts, "_gpu_name", lambda: "NVIDIA H100, 81559 MiB")
    config.trainer.update(device="cuda", nnodes=2, n_gpus_per_node=8)
    assert facts.facts_of(config)["device"].startswith("2 nodes x 8 x NVIDIA H100, 81559 MiB, ")
    assert facts.facts_of(config)["gpu"]


def test_a_path_is_relative_where_a_command_would_find_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert facts.shown_path(tmp_path / "outputs" / "run") == "outputs/run"
    assert facts.shown_path("/elsewhere/run") == "/elsewhere/run"
    assert facts.shown_path("outputs/run") == "outputs/run"
