"""These tests use verl itself, on its CPU platform; it is chosen before anything imports verl."""

import os

import pytest

os.environ.setdefault("VERL_PLATFORM", "cpu")
os.environ.setdefault("VERL_ENGINE_DEVICE", "cuda")


@pytest.fixture(scope="session")
def recipe_config_dir():
    from pathlib import Path

    return Path(__file__).resolve().parents[2] / "recipes" / "config"
