"""Settings for all tests: helpers importable, no network, property tests that draw the same examples every time."""

import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings

# Before anything imports a library of Hugging Face, which reads it once.
os.environ["HF_HUB_OFFLINE"] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parent))

# Machines differ in speed; the tests that are about time measure it themselves.
settings.register_profile("repeatable", deadline=None, derandomize=True, max_examples=30)
settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """An untrained policy of the real Qwen2.5-VL architecture: it answers babble, but always the same."""
    from vqathinker_verl.demo.model import build_model, build_processor, save_policy

    folder = tmp_path_factory.mktemp("tiny") / "model"
    processor = build_processor()
    model = build_model(processor.tokenizer, seed=0)
    model.config.vision_config.tokens_per_second = 2
    save_policy(model, processor, folder)
    return folder
