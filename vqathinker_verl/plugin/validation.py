"""Metrics of one validation, which join verl's own in `_val_metrics_update`."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas

from vqathinker_verl.metrics import chain_accuracy, krcc, plcc_raw, rmse_raw, srcc
from vqathinker_verl.rewards.config import RewardConfig


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
        The rows of chains give `chain_accuracy` in place of all these.
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
        responses["perturbed"] = [math.nan if text is None else config.parse(text).score for text in perturbed]
    metrics: dict[str, float] = {"val/failed_responses": float(expected_responses - len(responses))}
    chains = reward_extra_infos.get("chain", [None] * len(responses))
    responses["chain"] = [name if isinstance(name, str) else None for name in chains]
    responses["strength"] = [
        math.nan if value is None else value for value in reward_extra_infos.get("strength", [None] * len(responses))
    ]
    chained = responses["chain"].notna()
    for source, rows in responses[chained].groupby("source"):
        videos = rows.groupby("uid").agg({"chain": "first", "strength": "first", "pred_mos": "mean"}).dropna()
        metrics[f"val/{source}/chain_accuracy"] = chain_accuracy(
            videos["pred_mos"].to_numpy(), videos["chain"].tolist(), videos["strength"].to_numpy()
        )
        metrics[f"val/{source}/parse_failure_rate"] = float(rows["pred_mos"].isna().mean())
        metrics[f"val/{source}/scored"] = float(len(videos))
    for source, rows in responses[~chained].groupby("source"):
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
