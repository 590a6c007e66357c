"""The rewards under TRL's signature: one picklable callable each, for `GRPOTrainer(reward_funcs=[...])`.

    trainer = GRPOTrainer(..., reward_funcs=[RegressionReward(), RankingReward(), FormatReward()])

The data set needs the columns `mos` and `video_id`, and `data_source` where it mixes data sets; TRL hands every column
to every reward function. TRL adds the rewards up by its own `reward_weights`, so the weights of RewardConfig, and its
temporal fields, have no effect here. `CustomReward` is for rewards of your own (docs/custom_rewards.md).
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vqathinker_verl.adapters.common import as_mos, video_id_of
from vqathinker_verl.parsing import ParsedAnswer, parse_answer
from vqathinker_verl.rewards.combine import RewardConfig
from vqathinker_verl.rewards.extra import BatchReward, ExtraReward
from vqathinker_verl.rewards.format import format_reward
from vqathinker_verl.rewards.inputs import make_inputs
from vqathinker_verl.rewards.notices import warn_once
from vqathinker_verl.rewards.ranking import ranking_reward
from vqathinker_verl.rewards.regression import regression_reward

# Plain text, or the messages of a conversation, of which the last is the model's.
Completion = str | Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class RegressionReward:
    """The regression reward, decimal penalty included; logs `parse_failure_rate` through TRL's `log_metric`.

    It cannot see: nothing is missing, since this reward looks at single responses.

    Attributes:
        config: the constants.

    >>> RegressionReward()(["<think>Sharp.</think><answer>4.00</answer>", "4.00"], mos=[4.0, 4.0])
    [1.0, 0.0]
    """

    __name__ = "regression_reward"
    config: RewardConfig = field(default_factory=RewardConfig)

    def __call__(self, completions: Sequence[Completion], mos: Sequence[float | str], **kwargs: Any) -> list[float]:
        """Return one reward per completion; `mos` is the data set's column, other columns are not used."""
        answers = _parse(completions, self.config)
        scores = np.array([answer.score for answer in answers], dtype=np.float64)
        if "log_metric" in kwargs and len(scores):
            kwargs["log_metric"]("parse_failure_rate", float(np.isnan(scores).mean()))
        rewards: list[float] = regression_reward(
            scores,
            _mos(mos),
            sigma=self.config.sigma,
            decimals=[answer.decimals for answer in answers],
            decimal_penalty=self.config.decimal_penalty,
            min_decimals=self.config.min_decimals,
        ).tolist()
        return rewards


@dataclass(frozen=True)
class RankingReward:
    """The ranking reward among the videos of one call.

    It cannot see: the videos of TRL's other processes. TRL calls reward functions with one process's share, so each
    video is compared with fewer others than the training batch has; a warning says so once. With
    `per_device_train_batch_size` equal to `num_generations` a process may hold a single video, and the reward is 0.

    Attributes:
        config: the constants.
    """

    __name__ = "ranking_reward"
    config: RewardConfig = field(default_factory=RewardConfig)

    def __call__(
        self,
        completions: Sequence[Completion],
        mos: Sequence[float | str],
        video_id: Sequence[Any] | None = None,
        data_source: Sequence[Any] | None = None,
        **kwargs: Any,
    ) -> list[float]:
        """Return one reward per completion.

        Args:
            completions: (N,) responses.
            mos: (N,) MOS of each response's video.
            video_id: (N,) which video each response belongs to.
            data_source: (N,) data set of each response's video; without this column all are compared.
            **kwargs: TRL's other arguments and columns; not used.

        Raises:
            ValueError: if there is no `video_id`, for all responses or for one.
        """
        warn_once(
            "vqathinker_verl.adapters.trl.RankingReward sees the completions of one process only: "
            "the ranking reward compares the videos of that share, not of the whole training batch"
        )
        # TRL may hand over one video twice in a batch; its responses then form one group.
        sources = None if self.config.cross_dataset else data_source
        ids = _group_ids(video_id, sources, len(completions))
        scores = [answer.score for answer in _parse(completions, self.config)]
        reward = ranking_reward(scores, _mos(mos), ids, data_sources=sources, eps=self.config.eps)
        rewards: list[float] = reward.tolist()
        return rewards


@dataclass(frozen=True)
class FormatReward:
    """The format reward.

    It cannot see: nothing is missing, since this reward looks at single responses.
    """

    __name__ = "format_reward"

    def __call__(self, completions: Sequence[Completion], **kwargs: Any) -> list[float]:
        """Return 1 or 0 per completion; columns of the data set are not used."""
        rewards: list[float] = format_reward([_text(completion) for completion in completions]).tolist()
        return rewards


@dataclass(frozen=True)
class CustomReward:
    """A reward of your own, a function of a `RewardInputs`; NaN, "no verdict", becomes TRL's None.

    It cannot see: the completions of TRL's other processes, nor perturbed videos. Its weight is TRL's.

    Attributes:
        name: under which TRL logs it.
        function: called with the batch and `kwargs`; returns (N,) numbers. Must be picklable.
        kwargs: its keyword arguments.
        config: how scores are read.
    """

    name: str
    function: BatchReward
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    config: RewardConfig = field(default_factory=RewardConfig)

    def __post_init__(self) -> None:
        ExtraReward(self.function, kwargs=self.kwargs)  # checks both

    @property
    def __name__(self) -> str:
        return self.name

    def __call__(
        self,
        completions: Sequence[Completion],
        mos: Sequence[float | str],
        video_id: Sequence[Any] | None = None,
        data_source: Sequence[Any] | None = None,
        **kwargs: Any,
    ) -> list[float | None]:
        """Return one reward per completion, or None; the columns are those of `RankingReward`."""
        batch = make_inputs(
            [_text(completion) for completion in completions],
            _mos(mos),
            _group_ids(video_id, None if self.config.cross_dataset else data_source, len(completions)),
            parse=self.config.parse,
            data_sources=data_source,
            video_ids=video_id,
            cross_dataset=self.config.cross_dataset,
        )
        values = ExtraReward(self.function, kwargs=self.kwargs).evaluate(batch, name=self.name)
        return [None if np.isnan(value) else float(value) for value in values]


def _group_ids(video_id: Sequence[Any] | None, data_source: Sequence[Any] | None, length: int) -> list[Hashable]:
    """Return the group of each completion: its video, and its data set where the column is there."""
    ids = [
        video_id_of({"video_id": video_id[row] if video_id is not None else None}, f"video_id[{row}]")
        for row in range(length)
    ]
    return ids if data_source is None else list(zip(data_source, ids, strict=True))


def _text(completion: Completion) -> str:
    """Return the text of a completion: itself, or what its last message says."""
    if isinstance(completion, str):
        return completion
    content = completion[-1]["content"]
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in content if part.get("type") == "text")


def _parse(completions: Sequence[Completion], config: RewardConfig) -> list[ParsedAnswer]:
    return [
        parse_answer(
            _text(completion), fallback=config.fallback, score_range=config.score_range, decimals=config.decimals
        )
        for completion in completions
    ]


def _mos(mos: Sequence[float | str]) -> list[float]:
    return [as_mos(value, f"mos[{row}]") for row, value in enumerate(mos)]
