"""What the trainer says where no response is left; its rewards are tested on whole runs (tests/e2e)."""

import inspect
from types import SimpleNamespace

import pytest
import ray
import torch
import transfer_queue
import transfer_queue.client
from omegaconf import OmegaConf
from tensordict import TensorDict
from verl.trainer.ppo.v1 import replay_buffer

from vqathinker_verl.verl_integration import trainer as module


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
