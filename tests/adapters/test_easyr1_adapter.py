import importlib.util
import json
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from vqathinker_verl import RewardConfig, score_batch
from vqathinker_verl.adapters import easyr1
from vqathinker_verl.rewards.notices import warn_once

RESPONSES = ["<think>Sharp.</think><answer>4.00</answer>", "<think>Noise.</think><answer>2.5</answer>", "4.00"]
TRUTHS = [
    {"mos": 4.0, "video_id": "a", "data_source": "LSVQ"},
    {"mos": 2.0, "video_id": "b", "data_source": "LSVQ"},
    {"mos": 2.0, "video_id": "b", "data_source": "LSVQ"},
]


def reward_inputs(truths=TRUTHS):
    return [
        {"response": response, "response_length": len(response), "ground_truth": json.dumps(truth)}
        for response, truth in zip(RESPONSES, truths, strict=True)
    ]


def test_the_file_loaded_by_its_path_scores_a_batch():
    # The way EasyR1 does it, with the path that this module prints.
    printed = subprocess.run(
        [sys.executable, "-m", "vqathinker_verl.adapters.easyr1"], check=True, capture_output=True, text=True
    ).stdout.strip()
    path, name = printed.rsplit(":", 1)
    spec = importlib.util.spec_from_file_location("custom_reward_fn", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    scores = getattr(module, name)(reward_inputs(), sigma=0.6)

    batch = score_batch(RESPONSES, [4.0, 2.0, 2.0], list("abb"), config=RewardConfig(sigma=0.6))
    for key, column in (("overall", "total"), ("regression",) * 2, ("ranking",) * 2, ("format",) * 2):
        np.testing.assert_array_equal([score[key] for score in scores], getattr(batch, column))
    assert [score["parse_failure"] for score in scores] == [0, 0, 1]
    assert all(type(value) is float for score in scores for value in score.values())


def test_datasets_are_not_compared_unless_told_to():
    truths = [TRUTHS[0], *({**truth, "data_source": "CGVDS"} for truth in TRUTHS[1:])]
    apart = easyr1.compute_score(reward_inputs(truths))
    together = easyr1.compute_score(reward_inputs(truths), cross_dataset=True)
    assert [score["ranking"] for score in apart] == [0, 0, 0]
    assert together[0]["ranking"] == pytest.approx(1.001, abs=1e-5)


def test_extra_rewards_count_in_the_total_and_are_returned_where_they_have_a_verdict():
    example = Path(__file__).resolve().parents[2] / "examples" / "custom_reward.py"
    settings = {"brevity": {"path": str(example), "name": "brevity", "weight": 0.2, "kwargs": {"limit": 10}}}
    plain = easyr1.compute_score(reward_inputs())
    scores = easyr1.compute_score(reward_inputs(), extra_rewards=settings)
    assert scores[2] == plain[2]  # "4.00", without reasoning
    for row in (0, 1):
        assert scores[row] == pytest.approx(plain[row] | {"brevity": 1.0, "overall": plain[row]["overall"] + 0.2})


def test_the_temporal_settings_are_checked_and_have_no_effect():
    assert easyr1.compute_score(reward_inputs(), temporal_margin=0.1) == easyr1.compute_score(reward_inputs())
    with pytest.raises(ValueError, match="temporal_margin: expected a finite number of at least 0, got -1"):
        easyr1.compute_score(reward_inputs(), temporal_margin=-1)


def test_it_warns_once_of_what_it_cannot_see():
    warn_once.cache_clear()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        easyr1.compute_score(reward_inputs())
        easyr1.compute_score(reward_inputs())
    assert ["adapters.easyr1.compute_score sees" in str(entry.message) for entry in caught] == [True]


@pytest.mark.parametrize(
    ("truth", "message"),
    [
        ("3.52", r"reward_inputs\[1\]: ground_truth: expected a JSON object.*got '3.52'"),
        ("good", r"reward_inputs\[1\]: ground_truth: expected a JSON object"),
        (None, r"reward_inputs\[1\]: ground_truth: expected a JSON object"),
        ('{"mos": 3.5}', r"reward_inputs\[1\]: ground_truth: has no video_id"),
        ('{"video_id": "b"}', r"reward_inputs\[1\]: mos of the ground_truth: expected the MOS"),
    ],
)
def test_faulty_ground_truth_is_named(truth, message):
    inputs = reward_inputs()
    inputs[1]["ground_truth"] = truth
    with pytest.raises(ValueError, match=message):
        easyr1.compute_score(inputs)


def test_an_unknown_setting_is_refused():
    with pytest.raises(ValueError, match="unknown reward setting format_wieght"):
        easyr1.compute_score(reward_inputs(), format_wieght=0.1)


def test_a_single_response_is_refused():
    with pytest.raises(TypeError, match="reward_type=batch"):
        easyr1.compute_score(reward_inputs()[0])
