"""The rewards of one whole batch, between TransferQueue and `vqathinker_verl.rewards`.

Arrays in, arrays out; what reads and writes TransferQueue is trainer.py.
"""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas

from vqathinker_verl.metrics import krcc, plcc_raw, rmse_raw, srcc
from vqathinker_verl.parsing import parse_answer
from vqathinker_verl.rewards.batch import RewardBatch, score_batch
from vqathinker_verl.rewards.config import RewardConfig
from vqathinker_verl.rewards.extra import ExtraReward


@dataclass(frozen=True)
class Rollouts:
    """The responses of one step, all workers' together; every list has one entry per response (N).

    Attributes:
        uids: the prompt's id: responses with one uid form a group.
        video_ids: `extra_info.video_id` of the row.
        data_sources: the data set, whose MOS share a scale.
        mos: the label, in [1, 5].
        responses: decoded text.
        num_tokens: the response's length.
        perturbations: name of the perturbation drawn with this response, or None.
        perturbed_responses: its decoded text, or None.
        perturbed_tokens: its length, 0 where there is none.
    """

    uids: list[str]
    video_ids: list[str]
    data_sources: list[str]
    mos: list[float]
    responses: list[str]
    num_tokens: list[int]
    perturbations: list[str | None]
    perturbed_responses: list[str | None]
    perturbed_tokens: list[int]

    def __len__(self) -> int:
        return len(self.uids)

    def score(self, config: RewardConfig, extra_rewards: Mapping[str, ExtraReward] | None = None) -> RewardBatch:
        """All rewards, over the whole batch (docs/rewards.md)."""
        copies = zip(self.uids, self.perturbed_responses, self.perturbations, strict=True)
        perturbed = [(uid, text, name) for uid, text, name in copies if text is not None]
        return score_batch(
            self.responses,
            np.asarray(self.mos, dtype=np.float64),
            self.uids,
            perturbed_responses=[text for _, text, _ in perturbed],
            perturbed_group_ids=[uid for uid, _, _ in perturbed],
            perturbations=[name for _, _, name in perturbed],
            data_sources=self.data_sources,
            video_ids=self.video_ids,
            config=config,
            extra_rewards=extra_rewards,
        )

    def metrics(self, rewards: RewardBatch, expected_responses: int) -> dict[str, float]:
        """What is logged for this step: `reward/*` from the rewards, `rollout/*` from the sampling."""
        group_sizes = Counter(self.uids)
        perturbed_groups = {
            uid for uid, text in zip(self.uids, self.perturbed_responses, strict=True) if text is not None
        }
        return {
            **{f"reward/{name}": float(value) for name, value in rewards.metrics().items()},
            "rollout/original_tokens": float(sum(self.num_tokens)),
            "rollout/perturbed_tokens": float(sum(self.perturbed_tokens)),
            "rollout/perturbed_responses": float(sum(text is not None for text in self.perturbed_responses)),
            "rollout/videos_without_perturbed": float(len(group_sizes) - len(perturbed_groups)),
            "rollout/failed_responses": float(expected_responses - len(self)),
        }

    def dump(self, rewards: RewardBatch, path: Path, update: int = 0) -> None:
        """Write one JSON line per response, with every component, so that a step can be checked and read.

        Args:
            rewards: of these responses.
            path: the step's file.
            update: number of the update within the step; the lines of later ones come after those of the first.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")  # a run may be killed here, and a file's updates are whole or absent
        earlier = path.read_text(encoding="utf-8") if update else ""
        with partial.open("w", encoding="utf-8") as file:
            file.write(earlier)
            for i in range(len(self)):
                line = {
                    "update": update,
                    "uid": self.uids[i],
                    "video_id": self.video_ids[i],
                    "data_source": self.data_sources[i],
                    "mos": self.mos[i],
                    "response": self.responses[i],
                    "perturbation": self.perturbations[i],
                    "perturbed_response": self.perturbed_responses[i],
                    "pred_mos": _none_for_nan(rewards.pred_mos[i]),
                    "regression": float(rewards.regression[i]),
                    "ranking": float(rewards.ranking[i]),
                    "temporal": float(rewards.temporal[i]),
                    "format": float(rewards.format[i]),
                    **{name: _none_for_nan(values[i]) for name, values in rewards.extra.items()},
                    "total": float(rewards.total[i]),
                }
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
        partial.replace(path)


def step_metrics(updates: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """What is logged for a step of several updates: means of `reward/*`, sums of counts, the last of the others.

    Args:
        updates: the metrics of each update, all of the same names. NaN, of what is undefined in one, is left out of
            a mean.
    """
    return {name: float(_over_updates(str(name), column)) for name, column in pandas.DataFrame(updates).items()}


def _over_updates(name: str, values: "pandas.Series[float]") -> float:
    if name.startswith("rollout/") or name == "reward/temporal_excluded":
        return values.sum()
    return values.mean() if name.startswith("reward/") else values.iloc[-1]


def _none_for_nan(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def validation_metrics(
    data_sources: Sequence[str],
    uids: Sequence[str],
    reward_extra_infos: Mapping[str, Sequence[Any]],
    expected_responses: int,
    config: RewardConfig,
) -> dict[str, float]:
    """SRCC, raw PLCC, KRCC and raw RMSE over videos, and the share of responses without a score, per data source.

    A video's score is the mean over its responses that have one (`rollout.val_kwargs.n` of them; one, greedy, by
    default).

    Args:
        data_sources: (N,), one per validated response.
        uids: (N,), equal for the responses to one video.
        reward_extra_infos: what `adapters.verl.compute_score` returned for each: `pred_mos` and `mos` (N,); and
            `perturbed_response` (N,), text or None, where `temporal.in_validation` is set.
        expected_responses: how many responses validation asked for; the rest failed, and are counted.
        config: how a perturbed response is parsed.

    Returns:
        `val/{data_source}/{srcc,plcc_raw,krcc,rmse_raw,parse_failure_rate,scored}` and `val/failed_responses`;
        `scored` counts videos. With perturbed responses also `temporal_gap`, the mean over videos of the original's
        score less the perturbed one's, and `temporal_win_rate`, the share of videos whose original scores higher (equal
        counts half). A correlation that does not exist (fewer than two scores, constant predictions) is NaN.

    Raises:
        KeyError: the reward function gave no `pred_mos` or `mos`.
    """
    missing = {"pred_mos", "mos"} - reward_extra_infos.keys()
    if missing:
        raise KeyError(
            f"validation needs {sorted(missing)} from the reward function; set "
            "reward.custom_reward_function.path=pkg://vqathinker_verl.adapters.verl, .name=compute_score"
        )
    responses = pandas.DataFrame(
        {
            "source": list(data_sources),
            "uid": list(uids),
            "pred_mos": np.asarray(reward_extra_infos["pred_mos"], dtype=np.float64),
            "mos": np.asarray(reward_extra_infos["mos"], dtype=np.float64),
        }
    )
    perturbed = reward_extra_infos.get("perturbed_response", [])
    if any(text is not None for text in perturbed):
        responses["perturbed"] = [
            math.nan
            if text is None
            else parse_answer(
                text, fallback=config.fallback, score_range=config.score_range, decimals=config.decimals
            ).score
            for text in perturbed
        ]
    metrics: dict[str, float] = {"val/failed_responses": float(expected_responses - len(responses))}
    for source, rows in responses.groupby("source"):
        videos = rows.groupby("uid")[["pred_mos", "mos"]].mean().dropna()  # a mean leaves NaN out
        pred_mos, mos = videos["pred_mos"].to_numpy(), videos["mos"].to_numpy()
        for name, function in (("srcc", srcc), ("plcc_raw", plcc_raw), ("krcc", krcc), ("rmse_raw", rmse_raw)):
            metrics[f"val/{source}/{name}"] = float(function(pred_mos, mos))
        metrics[f"val/{source}/parse_failure_rate"] = float(rows["pred_mos"].isna().mean())
        metrics[f"val/{source}/scored"] = float(len(videos))
        if "perturbed" in rows:
            pairs = rows.groupby("uid")[["pred_mos", "perturbed"]].mean().dropna()
            gaps = (pairs["pred_mos"] - pairs["perturbed"]).to_numpy()
            metrics[f"val/{source}/temporal_gap"] = float(gaps.mean()) if len(gaps) else math.nan
            metrics[f"val/{source}/temporal_win_rate"] = (
                float(np.mean(0.5 * (1 + np.sign(gaps)))) if len(gaps) else math.nan
            )
    return metrics
