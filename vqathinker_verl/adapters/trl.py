"""The rewards under TRL's signature: one picklable callable each, for `GRPOTrainer(reward_funcs=[...])`.

    trainer = GRPOTrainer(..., reward_funcs=[RegressionReward(), RankingReward(), FormatReward()])

The data set needs the columns `mos` and `video_id`, and `data_source` where it mixes data sets; TRL hands every column
to every reward function. TRL adds the rewards up by its own `reward_weights`, so the weights of RewardConfig, and its
temporal fields, have no effect here. `CustomReward` is for rewards of your own (docs/custom_rewards.md).
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vqathinker_verl.adapters.common import as_mos, video_id_of
from vqathinker_verl.parsing import ParsedAnswer
from vqathinker_verl.rewards.config import RewardConfig
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
    """The ranking reward among the videos of the full batch.

    TRL calls a reward function in every process, each with its own share of the batch. The shares are gathered with
    accelerate's `gather_object`, so each video is compared with the videos of all processes, and a group of responses
    that TRL has split over two processes is one group.

    It cannot see: perturbed videos, so there is no temporal bonus. A warning says so once.

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
        """Return one reward per completion of this process.

        Args:
            completions: (N,) responses of this process.
            mos: (N,) MOS of each response's video.
            video_id: (N,) which video each response belongs to.
            data_source: (N,) data set of each response's video; without this column all are compared.
            **kwargs: TRL's other arguments and columns; not used.

        Raises:
            ValueError: if there is no `video_id`, for all responses or for one, or a MOS is not a number. Every
                process raises it, also where only one has the fault: otherwise the others would wait for it forever.
        """
        warn_once("vqathinker_verl.adapters.trl.RankingReward sees no perturbed videos: there is no temporal bonus")
        scores = [answer.score for answer in _parse(completions, self.config)]
        full = _full_batch(scores, mos, video_id, None if self.config.cross_dataset else data_source)
        reward = ranking_reward(full.values, full.mos, full.ids, data_sources=full.sources, eps=self.config.eps)
        rewards: list[float] = reward[full.own].tolist()
        return rewards


@dataclass(frozen=True)
class FormatReward:
    """The format reward.

    It cannot see: nothing is missing, since this reward looks at single responses.

    Attributes:
        prompt_opens_think: whether the model's chat template ends the prompt with `<think>`.
    """

    __name__ = "format_reward"
    prompt_opens_think: bool = False

    def __call__(self, completions: Sequence[Completion], **kwargs: Any) -> list[float]:
        """Return 1 or 0 per completion; columns of the data set are not used."""
        texts = [_text(completion) for completion in completions]
        rewards: list[float] = format_reward(texts, prompt_opens_think=self.prompt_opens_think).tolist()
        return rewards


@dataclass(frozen=True)
class CustomReward:
    """A reward of your own, a function of a `RewardInputs`; NaN, "no verdict", becomes TRL's None.

    It is given the full batch of all processes, as `RankingReward` is. It cannot see: perturbed videos. Its weight is
    TRL's.

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
        texts = [_text(completion) for completion in completions]
        full = _full_batch(texts, mos, video_id, data_source)
        batch = make_inputs(
            full.values,
            full.mos,
            [video for _, video in full.ids] if self.config.cross_dataset else full.ids,
            parse=self.config.parse,
            data_sources=None if data_source is None else full.sources,
            video_ids=None if video_id is None else [video for _, video in full.ids],
            cross_dataset=self.config.cross_dataset,
        )
        values = ExtraReward(self.function, kwargs=self.kwargs).evaluate(batch, name=self.name)[full.own]
        return [None if np.isnan(value) else float(value) for value in values]


@dataclass(frozen=True)
class _FullBatch:
    """The rows of all processes, process by process.

    Attributes:
        values: (N,) what each process gave for its responses: scores, or texts.
        mos: (N,) MOS of each response's video.
        ids: (N,) group of each response: its data set and its video.
        sources: (N,) data set of each response's video; "" where TRL has no such column.
        own: where the rows of this process are.
    """

    values: list[Any]
    mos: list[float]
    ids: list[tuple[Any, Any]]
    sources: list[Any]
    own: slice


def _full_batch(
    values: Sequence[Any],
    mos: Sequence[float | str],
    video_id: Sequence[Any] | None,
    data_source: Sequence[Any] | None,
) -> _FullBatch:
    """Gather the rows of all processes.

    Raises:
        ValueError: A row has no video id, or a MOS that is not a number.
    """
    videos = [None] * len(values) if video_id is None else video_id
    sources = [""] * len(values) if data_source is None else data_source
    # Nothing of the rows is checked before they are gathered, or the other processes would wait forever.
    shares, process = _gather(list(zip(values, mos, videos, sources, strict=True)))
    begin = sum(len(share) for share in shares[:process])
    full = _FullBatch([], [], [], [], slice(begin, begin + len(values)))
    for number, share in enumerate(shares):
        where = f"process {number}: " if len(shares) > 1 else ""
        for row, (value, known, video, source) in enumerate(share):
            full.values.append(value)
            full.mos.append(as_mos(known, f"{where}mos[{row}]"))
            # TRL may hand over one video twice in a batch; its responses then form one group.
            full.ids.append((source, video_id_of({"video_id": video}, f"{where}video_id[{row}]")))
            full.sources.append(source)
    return full


def _text(completion: Completion) -> str:
    """Return the text of a completion: itself, or what its last message says."""
    if isinstance(completion, str):
        return completion
    content = completion[-1]["content"]
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in content if part.get("type") == "text")


def _parse(completions: Sequence[Completion], config: RewardConfig) -> list[ParsedAnswer]:
    return [config.parse(_text(completion)) for completion in completions]


def _mos(mos: Sequence[float | str]) -> list[float]:
    return [as_mos(value, f"mos[{row}]") for row, value in enumerate(mos)]


def _gather(rows: list[Any]) -> tuple[list[list[Any]], int]:
    """Return the rows of every process, one list for each, and the number of this process.

    Nothing is imported: where TRL runs on several processes, it has imported torch and accelerate long before.
    """
    torch, accelerate = sys.modules.get("torch"), sys.modules.get("accelerate")
    if torch is None or accelerate is None:
        return [rows], 0
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [rows], 0
    # gather_object joins the lists that it is given, so this one holds the complete share as one item.
    return accelerate.utils.gather_object([rows]), accelerate.PartialState().process_index
