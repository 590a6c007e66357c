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
        raise self.error


class Trainer(module.BatchRewards, Empty):
    def __init__(self):
        pass


@pytest.mark.parametrize(
    ("phase", "said"),
    [
        (lambda trainer: trainer._validate(), "validation at step 20: every response failed"),
        (lambda trainer: trainer._write_batch_rewards(SimpleNamespace(keys=[])), "step 20: every response failed"),
    ],
)
def test_a_batch_without_responses_is_told_in_words(phase, said):
    with pytest.raises(RuntimeError, match=said):
        phase(Trainer())


def test_other_errors_of_a_validation_stay_what_they_are(monkeypatch):
    monkeypatch.setattr(Empty, "error", ValueError("another"))
    with pytest.raises(ValueError, match="another"):
        Trainer()._validate()


def test_transfer_queue_still_says_so():
    assert module.NO_KEYS in inspect.getsource(transfer_queue.client)
