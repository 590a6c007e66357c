"""The responses of one step, from all workers together: their rewards, metrics and dump; and validation's metrics.

Tables in, arrays out; trainer.py reads from and writes to TransferQueue. A step's table has one row per response, with
the columns

    uid                 the prompt's id: responses with one uid form a group
    video_id            `extra_info.video_id` of the prompt
    data_source         the data set, whose MOS share a scale
    mos                 the label, in [1, 5]
    response            text
    perturbation        name of the perturbation that was drawn with this response, or None
    perturbed_response  text of the response to the perturbed video, or None
    num_tokens, perturbed_tokens  lengths of the two, 0 where there is none
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas

from vqathinker_verl.metrics import krcc, plcc_raw, rmse_raw, srcc
from vqathinker_verl.parsing import parse_answer
from vqathinker_verl.rewards.batch import RewardBatch, score_batch
from vqathinker_verl.rewards.config import RewardConfig
from vqathinker_verl.rewards.extra import ExtraReward

DUMPED = ["uid", "video_id", "data_source", "mos", "response", "perturbation", "perturbed_response"]


def score_rollouts(
    rollouts: pandas.DataFrame, config: RewardConfig, extra_rewards: Mapping[str, ExtraReward] | None = None
) -> RewardBatch:
    """All rewards, over the full batch (docs/rewards.md, docs/custom_rewards.md)."""
    copies = rollouts[rollouts["perturbed_response"].notna()]
    return score_batch(
        rollouts["response"].tolist(),
        rollouts["mos"].to_numpy(np.float64),
        rollouts["uid"].tolist(),
        perturbed_responses=copies["perturbed_response"].tolist(),
        perturbed_group_ids=copies["uid"].tolist(),
        perturbations=copies["perturbation"].tolist(),
        data_sources=rollouts["data_source"].tolist(),
        video_ids=rollouts["video_id"].tolist(),
        config=config,
        extra_rewards=extra_rewards,
    )


def rollout_metrics(rollouts: pandas.DataFrame, rewards: RewardBatch, expected_responses: int) -> dict[str, float]:
    """What is logged: `reward/*` from the rewards, `rollout/*` from the sampling.

    Where a step has several updates (separate_async), verl combines their metrics by name: it adds up what is called
    "total" and takes the mean of the others.
    """
    copies = rollouts.groupby("uid")["perturbed_response"].count()
    return {
        **{f"reward/{name}": float(value) for name, value in rewards.metrics().items()},
        "rollout/total_original_tokens": float(rollouts["num_tokens"].sum()),
        "rollout/total_perturbed_tokens": float(rollouts["perturbed_tokens"].sum()),
        "rollout/total_perturbed_responses": float(copies.sum()),
        "rollout/total_videos_without_perturbed": float((copies == 0).sum()),
        "rollout/total_failed_responses": float(expected_responses - len(rollouts)),
    }


def dump_rollouts(rollouts: pandas.DataFrame, rewards: RewardBatch, path: Path, update: int = 0) -> None:
    """Write one JSON line per response, with every component, so that a step can be checked and read.

    Args:
        rollouts: the responses.
        rewards: of these responses.
        path: the step's file.
        update: number of the update within the step; the lines of later ones come after those of the first.
    """
    table = rollouts[DUMPED].assign(
        **{name: getattr(rewards, name) for name in ("pred_mos", "regression", "ranking", "temporal", "format")},
        **rewards.extra,
        total=rewards.total,
    )
    table.insert(0, "update", update)
    rows = table.astype(object).where(table.notna(), None).to_dict("records")  # JSON has no NaN
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")  # a run may be killed here, and a file's updates are complete or absent
    with partial.open("w", encoding="utf-8") as file:
        file.write(path.read_text(encoding="utf-8") if update else "")
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    partial.replace(path)


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
        reward_extra_infos: what the agent loop stored with each: `pred_mos` and `mos` (N,); and `perturbed_response`
            (N,), text or None, where `temporal.in_validation` is set.
        expected_responses: how many responses validation asked for; the rest failed, and are counted.
        config: how a perturbed response is parsed.

    Returns:
        `val/{data_source}/{srcc,plcc_raw,krcc,rmse_raw,parse_failure_rate,scored}` and `val/failed_responses`;
        `scored` counts videos. With perturbed responses also `temporal_gap`, the mean over videos of the original's
        score less the perturbed one's, and `temporal_win_rate`, the share of videos whose original scores higher (equal
        counts half). A correlation that does not exist (fewer than two scores, constant predictions) is NaN.
    """
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
