"""The rewards under verl's signatures, for verl recipes that are not ours.

    reward.custom_reward_function.path=pkg://vqathinker_verl.adapters.verl
    reward.custom_reward_function.name=compute_score
    +reward.custom_reward_function.reward_kwargs.sigma=0.5

`reward_kwargs` are fields of RewardConfig. docs/adapters.md has the settings of verl 0.4 to 0.9. Training with all four
rewards is what `vqathinker_verl.plugin` does, where the full batch is known.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vqathinker_verl.adapters.common import as_mos, video_id_of
from vqathinker_verl.rewards.batch import score_batch
from vqathinker_verl.rewards.config import RewardConfig
from vqathinker_verl.rewards.notices import warn_once
from vqathinker_verl.rewards.regression import regression_reward

# What verl's own reward managers add to the arguments; no settings of ours.
_FROM_VERL = ("reward_router_address", "reward_model_tokenizer")


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: float | str,
    extra_info: Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> dict[str, float]:
    """Return the reward of one response: regression and format, the two that need no batch.

    It cannot see: other responses. So there is no ranking reward and no temporal bonus, and a warning says so once.

    Args:
        data_source: the row's data set; not used, since one response is compared with nothing.
        solution_str: the response.
        ground_truth: MOS of the video.
        extra_info: the row's extra information; not used.
        **kwargs: fields of RewardConfig (verl's `reward_kwargs`); those of the temporal bonus have no effect here.

    Returns:
        Always the same keys: `score` (regression and format, with their weights), `mos`, `pred_mos` (NaN without a
        score), `regression`, `format`, `parse_failure` (1 without a score, else 0).

    Raises:
        ValueError: if the ground truth is not a MOS, or a setting is unknown or out of its range.

    >>> result = compute_score("LSVQ", "<think>Sharp.</think><answer>4.00</answer>", 4.0)
    >>> result["score"], result["regression"], result["format"]
    (2.0, 1.0, 1.0)
    """
    warn_once(
        "vqathinker_verl.adapters.verl.compute_score sees one response at a time: "
        "regression and format rewards only, no ranking reward and no temporal bonus"
    )
    return score_response(solution_str, ground_truth, _config(kwargs))


def score_response(
    response: str, ground_truth: float | str, config: RewardConfig, *, chained: bool = False
) -> dict[str, float]:
    """Return what `compute_score` returns; the plugin's agent loop scores validation with it.

    Args:
        response: text of the response.
        ground_truth: MOS of the video.
        config: settings of the rewards.
        chained: the video is of a chain: it has no MOS (NaN is returned) and gets no regression reward.

    Raises:
        ValueError: if the ground truth is not a MOS.
    """
    mos = math.nan if chained else as_mos(ground_truth, "ground_truth")
    answer = config.parse(response)
    regression = regression_reward(
        [answer.score],
        [0.0 if chained else mos],
        sigma=config.sigma,
        decimals=[answer.decimals],
        decimal_penalty=config.decimal_penalty,
        min_decimals=config.min_decimals,
    ).item() * (not chained)
    layout = float(answer.well_formed)
    return {
        "score": config.regression_weight * regression + config.format_weight * layout,
        "mos": mos,
        "pred_mos": answer.score,
        "regression": regression,
        "format": layout,
        "parse_failure": float(math.isnan(answer.score)),
    }


def compute_score_batched(
    data_sources: Sequence[str],
    solution_strs: Sequence[str],
    ground_truths: Sequence[float | str],
    extra_infos: Sequence[Mapping[str, Any]],
    **kwargs: Any,
) -> list[dict[str, float]]:
    """Return the rewards of the responses that are handed over together: regression, ranking and format.

    It cannot see: responses of another call. The BatchRewardManager of verl 0.4 to 0.6 hands over the full training
    batch; since 0.7, verl's configuration makes no manager that calls this function. Nor can it see perturbed videos,
    so there is no temporal bonus. A warning says so once.

    Args:
        data_sources: (N,) data set of each response's video.
        solution_strs: (N,) responses.
        ground_truths: (N,) MOS of each response's video.
        extra_infos: (N,) extra information of each row; its `video_id` shows which responses are of one video.
        **kwargs: fields of RewardConfig (verl's `reward_kwargs`); those of the temporal bonus have no effect here. And
            `extra_rewards`, as `vqathinker.extra_rewards` (docs/custom_rewards.md).

    Returns:
        For each response the keys of `compute_score`, `ranking` and the extra rewards (NaN: no verdict); `score` is
        the total.

    Raises:
        ValueError: if lengths differ, a row has no `video_id`, a ground truth is not a MOS, one video has more than
            one, a setting is unknown or out of its range, or an extra reward cannot be loaded or returns no reward.
    """
    extra_rewards = kwargs.pop("extra_rewards", None)
    warn_once(
        "vqathinker_verl.adapters.verl.compute_score_batched sees the responses of one call only: "
        "the ranking reward compares the videos among these, and there is no temporal bonus"
    )
    responses = list(solution_strs)
    for name, values in (
        ("data_sources", data_sources),
        ("ground_truths", ground_truths),
        ("extra_infos", extra_infos),
    ):
        if len(values) != len(responses):
            raise ValueError(f"{name}: expected {len(responses)} values, one per response, got {len(values)}")
    sources = list(data_sources)
    mos = [as_mos(value, f"ground_truths[{row}]") for row, value in enumerate(ground_truths)]
    batch = score_batch(
        responses,
        mos,
        # Two data sets may well give their videos the same ids.
        [
            (source, video_id_of(info, f"extra_infos[{row}]"))
            for row, (source, info) in enumerate(zip(sources, extra_infos, strict=True))
        ],
        data_sources=sources,
        config=_config(kwargs),
        extra_rewards=extra_rewards,
        video_ids=[info["video_id"] for info in extra_infos],
    )
    return [
        {
            "score": float(batch.total[row]),
            "mos": mos[row],
            "pred_mos": float(batch.pred_mos[row]),
            "regression": float(batch.regression[row]),
            "ranking": float(batch.ranking[row]),
            "format": float(batch.format[row]),
            "parse_failure": float(np.isnan(batch.pred_mos[row])),
            **{name: float(values[row]) for name, values in batch.extra.items()},
        }
        for row in range(len(responses))
    ]


def _config(kwargs: Mapping[str, Any]) -> RewardConfig:
    return RewardConfig.from_mapping({key: value for key, value in kwargs.items() if key not in _FROM_VERL})
