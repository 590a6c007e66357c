"""The examples in the docstrings of the reward library run and give what they say."""

import doctest
import warnings
from importlib import import_module

import pytest

MODULES = {
    "parsing": 2,
    "prompts": 1,
    "perturbations": 1,
    "metrics": 1,
    "rewards.regression": 1,
    "rewards.ranking": 1,
    "rewards.temporal": 1,
    "rewards.format": 1,
    "rewards.batch": 1,
    "adapters.verl": 1,
    "adapters.trl": 1,
    "adapters.easyr1": 1,
}


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        result = doctest.testmod(import_module(f"vqathinker_verl.{name}"))
    assert result.failed == 0
    assert result.attempted >= MODULES[name]
