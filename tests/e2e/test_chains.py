"""Two steps with chains beside labelled rows, on real processes."""

import json
import math
import subprocess

import numpy as np
import pytest
from helpers.runs import START_SECONDS, VQATHINKER, batch, read_jsonl, start_recipe

pytestmark = pytest.mark.e2e

STEPS, VIDEOS_A_STEP, GROUP_SIZE = 2, 8, 4


@pytest.fixture(scope="module")
def run(demo, tmp_path_factory):
    folder = tmp_path_factory.mktemp("chains")
    sources = sorted((demo / "videos").glob("*pristine*.mp4"))[:2]
    command = [
        *VQATHINKER,
        "synthesize",
        *map(str, sources),
        "--output-dir",
        str(folder / "chains"),
        "--strengths",
        "4",
    ]
    subprocess.run([*command, "--distortions", "blur", "noise", "darkness"], check=True, timeout=600)
    output_dir = folder / "run"
    started = start_recipe(
        demo,
        output_dir,
        *batch(VIDEOS_A_STEP, GROUP_SIZE),
        f"data.train_files=[{demo}/train.parquet,{folder}/chains/chains.parquet]",
        f"data.val_files=[{demo}/val.parquet,{folder}/chains/chains.parquet]",
        "data.chains.share=0.5",
        TOTAL_STEPS=str(STEPS),
    )
    assert started.wait(START_SECONDS) == 0, started.text()[-3000:]
    return output_dir


def test_each_batch_has_its_share_of_chains_and_they_are_ranked(run):
    for step in range(1, STEPS + 1):
        lines = read_jsonl(run / "rollouts" / f"{step}.jsonl")
        chained = [line for line in lines if line["chain"] is not None]
        # A place is left to a labelled row where less than two of a chain would fit into it.
        assert len({line["uid"] for line in chained}) in (VIDEOS_A_STEP // 2 - 1, VIDEOS_A_STEP // 2)
        assert all(line["mos"] is None and line["regression"] == 0 and line["temporal"] == 0 for line in chained)
        assert all(line["perturbed_response"] is None for line in chained)
        assert all(math.isfinite(line["total"]) for line in lines)
        scored = [line for line in chained if line["pred_mos"] is not None]
        assert not scored or np.mean([line["ranking"] for line in scored]) > 0


def test_their_metrics_are_logged(run):
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    logged = {name for line in metrics for name in line.get("data", line)}
    assert {"reward/chain_accuracy", "reward/chain_ranking", "val/chains/chain_accuracy"} <= logged
