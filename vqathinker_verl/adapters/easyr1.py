"""The rewards under EasyR1's batch signature.

EasyR1 loads a reward function by the path of its file, and calls it with the responses of a full batch:

    worker.reward.reward_function=<this file>:compute_score

`python -m vqathinker_verl.adapters.easyr1` prints this path. Leave `worker.reward.reward_type` alone: in EasyR1 0.3.1
and 0.3.2 it is `batch` by default, and newer versions have no such setting but read REWARD_TYPE below. EasyR1 hands
over a response and its ground truth and no more, so the ground truth has to carry the video's id: it is a JSON object,
in the data set's answer column,

    {"mos": 3.52, "video_id": "yfcc-batch6/4134.mp4", "data_source": "LSVQ"}
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vqathinker_verl.adapters.common import as_mos, video_id_of
from vqathinker_verl.rewards.batch import score_batch
from vqathinker_verl.rewards.config import RewardConfig
from vqathinker_verl.rewards.notices import warn_once

# Read by EasyR1's newer versions.
REWARD_NAME = "vqathinker"
REWARD_TYPE = "batch"


def compute_score(reward_inputs: Sequence[Mapping[str, Any]], **kwargs: Any) -> list[dict[str, float]]:
    """Return the rewards of a batch: regression, ranking and format.

    It cannot see: perturbed videos, so there is no temporal bonus; nor responses of another call. A warning says so
    once.

    Args:
        reward_inputs: for each response a mapping with `response` and `ground_truth`, the latter a JSON object with
            `mos`, `video_id` and, where data sets are mixed, `data_source`.
        **kwargs: fields of RewardConfig (EasyR1's `reward_function_kwargs`); those of the temporal bonus have no effect
            here. And `extra_rewards`, as `vqathinker.extra_rewards` (docs/custom_rewards.md).

    Returns:
        For each response `overall` (the total), `regression`, `ranking`, `format`, `parse_failure`, and each extra
        reward that has a verdict on it: EasyR1 logs the mean of the values that it gets.

    Raises:
        ValueError: if a ground truth is no such object, without MOS or video_id, a setting is unknown, or an
            extra reward cannot be loaded or returns no reward.
        TypeError: for a single response (EasyR1's `reward_type=sequential`).

    >>> truth = '{"mos": 4.0, "video_id": "a"}', '{"mos": 2.0, "video_id": "b"}'
    >>> answers = "<think>Sharp.</think><answer>4.00</answer>", "<think>Noise.</think><answer>2.00</answer>"
    >>> inputs = [{"response": r, "ground_truth": t} for r, t in zip(answers, truth)]
    >>> [round(score["overall"], 2) for score in compute_score(inputs)]
    [3.0, 3.0]
    """
    if isinstance(reward_inputs, Mapping):
        raise TypeError(
            "reward_inputs: got one response; ranking needs a batch, so set worker.reward.reward_type=batch"
        )
    warn_once(
        "vqathinker_verl.adapters.easyr1.compute_score sees the responses of one call and no perturbed videos: "
        "the ranking reward compares the videos among these, and there is no temporal bonus"
    )
    extra_rewards = kwargs.pop("extra_rewards", None)
    truths = [_ground_truth(item["ground_truth"], row) for row, item in enumerate(reward_inputs)]
    # A row without data_source is of one nameless data set.
    sources = [str(truth.get("data_source", "")) for truth in truths]
    ids = [video_id_of(truth, f"reward_inputs[{row}]: ground_truth") for row, truth in enumerate(truths)]
    batch = score_batch(
        [item["response"] for item in reward_inputs],
        [
            as_mos(truth.get("mos"), f"reward_inputs[{row}]: mos of the ground_truth")
            for row, truth in enumerate(truths)
        ],
        list(zip(sources, ids, strict=True)),
        data_sources=sources,
        config=RewardConfig.from_mapping(kwargs),
        extra_rewards=extra_rewards,
        video_ids=ids,
    )
    return [
        {
            "overall": float(batch.total[row]),
            "regression": float(batch.regression[row]),
            "ranking": float(batch.ranking[row]),
            "format": float(batch.format[row]),
            "parse_failure": float(np.isnan(batch.pred_mos[row])),
            **{name: float(values[row]) for name, values in batch.extra.items() if not np.isnan(values[row])},
        }
        for row in range(len(truths))
    ]


def _ground_truth(value: object, row: int) -> Mapping[str, Any]:
    try:
        truth = json.loads(value) if isinstance(value, str) else value
    except json.JSONDecodeError:
        truth = None
    if not isinstance(truth, Mapping):
        raise ValueError(
            f'reward_inputs[{row}]: ground_truth: expected a JSON object such as {{"mos": 3.52, "video_id": "x.mp4"}}, '
            f"got {value!r}"
        )
    return truth


if __name__ == "__main__":
    print(f"{__file__}:compute_score")  # noqa: T201
