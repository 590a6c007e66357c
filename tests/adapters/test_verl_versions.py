"""The real reward managers of older verls against `score_batch`, made by the settings of docs/adapters.md.

Each wheel is installed without its dependencies into a folder of its own, once (helpers/packages.py). What verl imports
comes from the environment of the tests.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.packages import ROOT, installed

from vqathinker_verl import RewardConfig, score_batch
from vqathinker_verl.adapters import verl as adapter

# Before 0.7, verl loads a file, and its configuration makes the batch manager.
BY_FILE = [
    f"custom_reward_function.path={adapter.__file__}",
    "custom_reward_function.name=compute_score",
    "+custom_reward_function.reward_kwargs.sigma=0.6",
]
BATCH_BY_FILE = ["reward_model.reward_manager=batch", BY_FILE[0], f"{BY_FILE[1]}_batched", BY_FILE[2]]
# Since 0.7, verl loads a module, and its configuration makes managers that score one response at a time.
BY_MODULE = [
    "reward.custom_reward_function.path=pkg://vqathinker_verl.adapters.verl",
    "reward.custom_reward_function.name=compute_score",
    "+reward.custom_reward_function.reward_kwargs.sigma=0.6",
]
BATCH_BY_MODULE = [BY_MODULE[0], f"{BY_MODULE[1]}_batched", BY_MODULE[2]]

# Version -> settings of the batch manager, settings of the default manager.
VERSIONS = {
    "0.4.1": (BATCH_BY_FILE, BY_FILE),
    "0.5.0": (BATCH_BY_FILE, BY_FILE),
    "0.6.1": (BATCH_BY_FILE, BY_FILE),
    "0.7.1": (BATCH_BY_MODULE, BY_MODULE),
    "0.8.0": (BATCH_BY_MODULE, BY_MODULE),
}

# Two data sets, one video id in both, a response with one decimal, one without an answer.
ROWS = [
    ("LSVQ", "1.mp4", 4.0, "<think>Sharp.</think><answer>4.00</answer>"),
    ("LSVQ", "1.mp4", 4.0, "<think>Sharp, a little noise.</think><answer>3.6</answer>"),
    ("LSVQ", "2.mp4", 2.0, "<think>Noise.</think><answer>2.55</answer>"),
    ("LSVQ", "2.mp4", 2.0, "2.00"),
    ("LSVQ", "3.mp4", 3.0, "<think>Fair.</think><answer>4.31</answer>"),
    ("CGVDS", "1.mp4", 1.5, "<answer>1.50</answer>"),
    ("CGVDS", "9.mp4", 4.5, "<think>Blocks.</think><answer>3.75</answer>"),
]


@pytest.fixture(scope="module", params=VERSIONS)
def outcome(request, tmp_path_factory):
    """What the managers of one version return for the rows."""
    batch_settings, single_settings = VERSIONS[request.param]
    folder = tmp_path_factory.mktemp("verl")
    case = {
        "batch_settings": batch_settings,
        "single_settings": single_settings,
        "rows": [dict(zip(("data_source", "video_id", "mos", "response"), row, strict=True)) for row in ROWS],
    }
    (folder / "case.json").write_text(json.dumps(case))
    path = os.pathsep.join(filter(None, [str(installed("verl", request.param)), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("verl_process.py"), folder / "case.json", folder / "result.json"],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads((folder / "result.json").read_text())
    assert result["version"] == request.param
    return result


def scored():
    sources, ids, mos, responses = zip(*ROWS, strict=True)
    groups = list(zip(sources, ids, strict=True))
    return score_batch(responses, mos, groups, data_sources=sources, config=RewardConfig(sigma=0.6))


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_the_batch_manager_returns_the_totals_of_score_batch(outcome):
    batch = scored()
    assert np.count_nonzero(batch.ranking) == len(ROWS) - 1
    # verl writes a response's reward, in single precision, at its last token.
    for rewards, (*_, response), total in zip(outcome["token_rewards"], ROWS, batch.total, strict=True):
        assert rewards[len(response) - 1] == np.float32(total)
        assert np.count_nonzero(rewards) == (total != 0)
    names = {"score": "total", "regression": "regression", "ranking": "ranking", "format": "format"}
    for column, name in {**names, "pred_mos": "pred_mos"}.items():
        np.testing.assert_array_equal(outcome["columns"][column], getattr(batch, name))


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_one_response_at_a_time_gets_regression_and_format(outcome):
    batch = scored()
    expected = batch.regression + batch.format
    np.testing.assert_array_equal(np.float32(outcome["one_by_one"]), np.float32(expected))


@pytest.mark.parametrize("settings", [BY_FILE, BATCH_BY_FILE, BY_MODULE], ids=["file", "file, batch", "module"])
def test_the_documentation_has_these_settings(settings):
    page = (ROOT / "docs" / "adapters.md").read_text(encoding="utf-8")
    lines = {line.strip(" \\") for line in page.splitlines()}
    assert {setting.replace(adapter.__file__, '"$ADAPTER"').replace("0.6", "0.5") for setting in settings} <= lines
