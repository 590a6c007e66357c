"""Settings for all tests: helpers importable, no network, property tests that draw the same examples every time."""

import os

import pytest
from hypothesis import settings

from vqathinker_verl.config import CONFIG_DIR

# Before anything imports a library of Hugging Face, which reads it once.
os.environ["HF_HUB_OFFLINE"] = "1"
# verl's CPU platform, chosen before anything imports verl.
os.environ.setdefault("VERL_PLATFORM", "cpu")
os.environ.setdefault("VERL_ENGINE_DEVICE", "cuda")

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


@pytest.fixture(scope="session")
def recipe_config_dir():
    return CONFIG_DIR


@pytest.fixture(scope="module")
def cluster():
    """A real Ray of one CPU."""
    import ray

    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, object_store_memory=2**27)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def queue():
    """A real TransferQueue."""
    import ray
    import transfer_queue

    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, object_store_memory=2**27)
    transfer_queue.init()
    yield transfer_queue
    transfer_queue.close()
    ray.shutdown()
