"""The demo that the end-to-end runs train on."""

import subprocess

import pytest


@pytest.fixture(scope="session")
def demo(tmp_path_factory):
    """A small demo: few clips and a short warm-up, enough for most answers to parse."""
    folder = tmp_path_factory.mktemp("demo")
    command = ["vqathinker", "demo", "--output", str(folder), "--train-clips", "24", "--val-clips", "14"]
    subprocess.run([*command, "--eyes-steps", "20", "--warmup-steps", "90"], check=True, timeout=900)
    for split in ("train", "val"):
        command = ["vqathinker", "prepare", f"{folder}/labels/{split}.csv", "--video-root", f"{folder}/videos"]
        command += ["--scale", "0", "100", "--dataset", "demo", "--split", split]
        subprocess.run([*command, "--output", f"{folder}/{split}.parquet"], check=True, timeout=120)
    return folder
