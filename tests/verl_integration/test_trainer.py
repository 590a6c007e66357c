"""What the trainer says where no response is left; its rewards are tested on whole runs (tests/e2e)."""

import inspect
from types import SimpleNamespace

import pytest
import transfer_queue.client

from vqathinker_verl.verl_integration import trainer as module


class Empty:
    """Stands for verl's trainer in a validation of which every response failed."""

    global_steps = 20
    error = ValueError("Received an empty list as keys.")

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


def test_transfer_queue_still_says_so():
    assert module.NO_KEYS in inspect.getsource(transfer_queue.client)
