import functools
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


class ManagerContract:
    """What EasyR1's batch reward manager does with a reward function, and no more.

    EasyR1 is not on PyPI, so the manager itself cannot be installed here. This was written from what its versions
    0.3.1, 0.3.2 and commit b44b311 (July 2026) do: they load the file under the name `custom_reward_fn`, bind
    `reward_function_kwargs`, decode each row up to its length, call the function once for the batch, put `overall` at
    the row's last token in single precision, and collect every value of the result by its name.
    """

    def __init__(self, reward_function, reward_function_kwargs, length):
        path, name = reward_function.rsplit(":", maxsplit=1)
        assert Path(path).exists()
        spec = importlib.util.spec_from_file_location("custom_reward_fn", path)
        module = importlib.util.module_from_spec(spec)
        sys.modules["custom_reward_fn"] = module
        spec.loader.exec_module(module)
        self.function = functools.partial(getattr(module, name), **reward_function_kwargs)
        self.reward_type = module.REWARD_TYPE  # read since November 2025
        self.length = length

    def __call__(self, rows, mask, ground_truths):
        assert self.reward_type == "batch"
        lengths = mask.sum(axis=1)
        inputs = [
            {
                "response": "".join(chr(token) for token in row[:length]),
                "response_length": self.length(length),
                "ground_truth": truth,
            }
            for row, length, truth in zip(rows, lengths, ground_truths, strict=True)
        ]
        rewards, columns = np.zeros(rows.shape, dtype=np.float32), {}
        for row, score in enumerate(self.function(inputs)):
            rewards[row, lengths[row] - 1] = score["overall"]
            for key, value in score.items():
                columns.setdefault(key, []).append(value)
        return rewards, columns


# 0.3.2 and newer hand over an int; 0.3.1 a scalar array.
@pytest.mark.parametrize("length", [int, np.asarray])
def test_as_its_manager_drives_it(length, monkeypatch):
    monkeypatch.setitem(sys.modules, "custom_reward_fn", None)  # taken back after the test
    printed = subprocess.run(
        [sys.executable, "-m", "vqathinker_verl.adapters.easyr1"], check=True, capture_output=True, text=True
    ).stdout.strip()
    tokens = np.zeros((3, max(map(len, RESPONSES))), dtype=np.int64)
    for row, response in enumerate(RESPONSES):
        tokens[row, : len(response)] = [ord(character) for character in response]
    truths = np.array([json.dumps(truth) for truth in TRUTHS], dtype=object)
    rewards, columns = ManagerContract(printed, {"sigma": 0.6}, length)(tokens, tokens != 0, truths)

    batch = score_batch(RESPONSES, [4.0, 2.0, 2.0], list("abb"), config=RewardConfig(sigma=0.6))
    for row, (response, total) in enumerate(zip(RESPONSES, batch.total, strict=True)):
        assert rewards[row, len(response) - 1] == np.float32(total)
        assert np.count_nonzero(rewards[row]) == (total != 0)
    for key, column in (("overall", "total"), ("regression",) * 2, ("ranking",) * 2, ("format",) * 2):
        np.testing.assert_array_equal(columns[key], getattr(batch, column))
    assert columns["parse_failure"] == [0, 0, 1]
    # EasyR1 takes the mean of each column, over all rows.
    assert all(len(values) == 3 and {type(value) for value in values} == {float} for values in columns.values())


def test_datasets_are_compared_only_if_configured():
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
