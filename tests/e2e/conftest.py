"""The demo that the end-to-end runs train on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def demo(tmp_path_factory):
    """A small demo: few clips and a short warm-up, enough for most answers to parse.

    VQATHINKER_TEST_DEMO names one that was made before, for quicker turns while a test is written.
    """
    if made_before := os.environ.get("VQATHINKER_TEST_DEMO"):
        return Path(made_before)
    folder = tmp_path_factory.mktemp("demo")
    vqathinker = [sys.executable, "-m", "vqathinker_verl.cli"]
    command = [*vqathinker, "demo", "--output", str(folder), "--train-clips", "24", "--val-clips", "14"]
    subprocess.run([*command, "--warmup-steps", "150"], check=True, timeout=900)
    for split in ("train", "val"):
        command = [*vqathinker, "prepare", f"{folder}/labels/{split}.csv", "--video-root", f"{folder}/videos"]
        command += ["--scale", "0", "100", "--dataset", "demo", "--split", split]
        subprocess.run([*command, "--output", f"{folder}/{split}.parquet"], check=True, timeout=120)
    return folder
