"""These tests use verl itself, on its CPU platform; it is chosen before anything imports verl."""

import os

import pytest
import ray

os.environ.setdefault("VERL_PLATFORM", "cpu")
os.environ.setdefault("VERL_ENGINE_DEVICE", "cuda")


@pytest.fixture(scope="session")
def recipe_config_dir():
    from pathlib import Path

    return Path(__file__).resolve().parents[2] / "recipes" / "config"


@pytest.fixture(scope="module")
def cluster():
    """A real Ray of one CPU."""
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, object_store_memory=2**27)
    yield
    ray.shutdown()
