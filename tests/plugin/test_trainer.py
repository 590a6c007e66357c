"""What the trainer says where no response is left, and what it writes; whole runs are in tests/e2e."""

import inspect
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import ray
import torch
import transfer_queue
import transfer_queue.client
from omegaconf import OmegaConf
from tensordict import TensorDict
from verl.trainer.ppo.v1 import replay_buffer
from verl.utils import tensordict_utils

from vqathinker_verl import RewardConfig, score_batch
from vqathinker_verl.plugin import trainer as module


class Empty:
    """Stands for verl's trainer in a validation of which every response failed."""

    global_steps = 20
    error = ValueError("Received an empty list as keys.")

    def step(self, metrics, timing_raw):
        raise RuntimeError("Sync replay buffer selected terminal groups with no materializable trajectories.")

    def _validate(self):
        for _ in self.val_dataloader:
            self.time += 50
        raise self.error


class Trainer(module.BatchRewards, Empty):
    def __init__(self):
        self.time, self.phases, self.val_dataloader = 0, [], ["a batch"]
        self.watchdog = SimpleNamespace(enter=lambda phase: self.phases.append((phase, self.time)))


@pytest.mark.parametrize(
    ("phase", "said"),
    [
        (lambda trainer: trainer.step({}, {}), "^step 20: every response of the batch failed"),
        (lambda trainer: trainer._validate(), "validation at step 20: every response of the batch failed"),
        (
            lambda trainer: trainer._write_batch_rewards(SimpleNamespace(keys=[])),
            "step 20: every response of the batch failed",
        ),
    ],
)
def test_a_batch_without_responses_is_told_in_words(phase, said):
    with pytest.raises(RuntimeError, match=said):
        phase(Trainer())


def test_other_errors_of_a_validation_stay_what_they_are(monkeypatch):
    monkeypatch.setattr(Empty, "error", ValueError("another"))
    with pytest.raises(ValueError, match="another"):
        Trainer()._validate()


def test_every_batch_of_a_validation_has_the_time_of_a_phase():
    trainer = Trainer()
    trainer.val_dataloader = batches = ["a batch", "another", "a third"]
    with pytest.raises(RuntimeError):
        trainer._validate()
    assert trainer.phases == [("validation", 0), ("validation", 50), ("validation", 100)]
    assert trainer.val_dataloader is batches


def test_extra_rewards_are_in_what_the_advantages_come_from(monkeypatch, tmp_path):
    texts = ["<think>a b c</think><answer>4.00</answer>", "<think>a</think><answer>2.00</answer>", "no answer"]
    ids = [torch.tensor(list(text.encode())) for text in texts]
    fields = {"perturbation": None, "perturbed_response": None, "perturbed_tokens": 0}
    data = tensordict_utils.get_tensordict(
        {
            "responses": torch.nested.as_nested_tensor(ids, layout=torch.jagged),
            "uid": ["a", "b", "b"],
            "data_source": ["demo"] * 3,
            "reward_model": [{"ground_truth": mos} for mos in (4.0, 2.0, 2.0)],
            "extra_info": [{"video_id": video} for video in ("a.mp4", "b.mp4", "b.mp4")],
            "extra_fields": [fields] * 3,
        }
    )
    written = []
    queue = SimpleNamespace(
        kv_batch_get=lambda **_: data, kv_batch_put=lambda fields, **_: written.append(fields["rm_scores"])
    )
    monkeypatch.setattr(module, "tq", queue)

    trainer = Trainer()
    trainer.config = OmegaConf.create(
        {
            "vqathinker": {
                "rollout_dir": str(tmp_path),
                "extra_rewards": {
                    "brevity": {
                        "path": str(Path(__file__).resolve().parents[2] / "examples" / "custom_reward.py"),
                        "name": "brevity",
                        "weight": 0.2,
                        "kwargs": {"limit": 2},
                    }
                },
            },
            "data": {"train_batch_size": 2},
            "actor_rollout_ref": {"rollout": {"n": 2}},
        }
    )
    trainer.reward_config, trainer.extra_rewards = RewardConfig(), module.extra_rewards(trainer.config)
    trainer.parameter_sync_step, trainer.update_metrics = 1, []
    trainer.tokenizer = SimpleNamespace(decode=lambda ids, skip_special_tokens: bytes(ids.tolist()).decode())
    metrics = trainer._write_batch_rewards(SimpleNamespace(keys=["a_0", "b_0", "b_1"], partition_id="train"))

    plain = score_batch(texts, [4.0, 2.0, 2.0], list("abb")).total
    expected = np.add(plain, [0.2 * 0.5, 0.2, 0.0])  # three words of a limit of two; one; no verdict
    scores = [row.tolist() for row in written[0].unbind()]
    assert [row[-1] for row in scores] == pytest.approx(expected)
    assert not any(any(row[:-1]) for row in scores)
    assert metrics["reward/brevity"] == 0.75
    lines = [json.loads(line) for line in (tmp_path / "20.jsonl").read_text().splitlines()]
    assert [line["brevity"] for line in lines] == [0.5, 1.0, None]
    assert [line["total"] for line in lines] == pytest.approx(expected)


def test_responses_without_their_prompt_are_those_that_were_learnt_from():
    tags = {
        "a": {"is_prompt": True, "status": "finished"},
        "a_0_0": {"is_prompt": False},
        "a_1_0": {},
        "b_0_0": {"is_prompt": False},  # its prompt left TransferQueue when it was sampled
        "c": {"is_prompt": True, "status": "pending"},
    }
    assert module.without_prompt(tags) == ["b_0_0"]
    assert module.without_prompt({}) == []


class TestDecodeAhead:
    """The videos of the next batch, while this one is learnt from."""

    @pytest.fixture
    def asked(self, monkeypatch):
        asked = []
        monkeypatch.setattr(module, "decode_ahead", lambda prompts, workers, *_: asked.append((prompts, workers)))
        return asked

    def trainer(self, **fields):
        trainer = Trainer()
        loader = [{"raw_prompt": ["a", "b"]}, {"raw_prompt": ["c", "d"]}]
        looked_at = SimpleNamespace(look_ahead=lambda count: loader[:count])
        defaults = {
            "trainer_mode": "sync",
            "total_training_steps": 21,
            "train_dataloader": looked_at,
            "config": OmegaConf.create({"data": {"train_batch_size": 4, "gen_batch_size": 2}}),
            "agent_loop_manager": SimpleNamespace(agent_loop_workers=["worker"]),
            "processor": None,
        }
        for name, value in {**defaults, **fields}.items():
            setattr(trainer, name, value)
        return trainer

    def test_all_prompts_of_the_next_step(self, asked):
        self.trainer()._decode_ahead()
        assert asked == [(["a", "b", "c", "d"], ["worker"])]

    @pytest.mark.parametrize("fields", [{"total_training_steps": 20}, {"trainer_mode": "colocate_async"}])
    def test_nothing_after_the_last_step_or_where_generation_never_stops(self, asked, fields):
        self.trainer(**fields)._decode_ahead()
        assert asked == []


class Asynchronous:
    """Stands for one of verl's asynchronous trainers when it goes on from a checkpoint."""

    trainer_mode = "colocate_async"

    def _load_checkpoint(self):
        transfer_queue.load_checkpoint(self.folder)


@pytest.mark.e2e  # a real TransferQueue takes a while to start
def test_what_a_checkpoint_has_learnt_from_does_not_come_back(tmp_path):
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, object_store_memory=2**27)
    try:
        transfer_queue.init()
        prompts = {
            "waiting": {"is_prompt": True, "status": "finished"},
            "asked": {"is_prompt": True, "status": "running"},
        }
        transfer_queue.kv_batch_put(keys=list(prompts), partition_id="train", tags=list(prompts.values()))
        responses = ["waiting_0_0", "trained_0_0", "trained_1_0"]
        ids = torch.nested.as_nested_tensor([torch.arange(3)] * len(responses), layout=torch.jagged)
        fields = TensorDict({"responses": ids}, batch_size=len(responses))
        tags = [{"is_prompt": False}] * len(responses)
        transfer_queue.kv_batch_put(keys=responses, partition_id="train", fields=fields, tags=tags)
        transfer_queue.save_checkpoint(tmp_path)  # as verl does, before the step's responses are cleared
        transfer_queue.kv_clear(keys=[*prompts, *responses], partition_id="train")

        resumed = type("Resumed", (module.BatchRewards, Asynchronous), {"__init__": lambda self: None})()
        resumed.folder = tmp_path
        resumed._load_checkpoint()
        assert set(transfer_queue.kv_list("train")["train"]) == {"waiting", "asked", "waiting_0_0"}
    finally:
        transfer_queue.close()
        ray.shutdown()


def test_transfer_queue_and_verl_still_say_so():
    assert module.NO_KEYS in inspect.getsource(transfer_queue.client)
    assert module.NO_TRAJECTORIES in inspect.getsource(replay_buffer)
