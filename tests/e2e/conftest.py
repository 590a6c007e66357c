"""The demo that the end-to-end runs train on."""

import os
import subprocess
from pathlib import Path

import pytest
from helpers.runs import VQATHINKER, prepare_demo


@pytest.fixture(scope="session")
def demo(tmp_path_factory):
    """A small demo: few clips and a short warm-up, enough for most answers to parse.

    VQATHINKER_TEST_DEMO names one that was made before, for quicker turns while a test is written.
    """
    if made_before := os.environ.get("VQATHINKER_TEST_DEMO"):
        return Path(made_before)
    folder = tmp_path_factory.mktemp("demo")
    command = [*VQATHINKER, "demo", "--output-dir", str(folder), "--train-clips", "24", "--val-clips", "14"]
    subprocess.run([*command, "--warmup-steps", "150"], check=True, timeout=900)
    prepare_demo(folder)
    return folder
