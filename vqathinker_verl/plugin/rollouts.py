"""The responses of one step, from all workers together: their rewards, metrics and dump.

Tables in, arrays out; trainer.py reads from and writes to TransferQueue. A step's table has one row per response, with
the columns

    uid                 the prompt's id: responses with one uid form a group
    video_id            `extra_info.video_id` of the prompt
    data_source         the data set, whose MOS share a scale
    mos                 the label, in [1, 5]; NaN for a video of a chain
    chain, strength     of a video without a label (docs/generalization.md); None and NaN for a labelled one
    response            text
    perturbation        name of the perturbation that was drawn with this response, or None
    perturbed_response  text of the response to the perturbed video, or None
    num_tokens, perturbed_tokens  lengths of the two, 0 where there is none
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas

from vqathinker_verl.files import json_line, write_text
from vqathinker_verl.rewards.batch import RewardBatch, score_batch
from vqathinker_verl.rewards.config import RewardConfig
from vqathinker_verl.rewards.extra import ExtraReward

DUMPED = [
    "uid",
    "video_id",
    "data_source",
    "mos",
    "chain",
    "strength",
    "response",
    "perturbation",
    "perturbed_response",
]


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
        chains=[name if isinstance(name, str) else None for name in rollouts["chain"]],
        strengths=rollouts["strength"].to_numpy(np.float64),
        config=config,
        extra_rewards=extra_rewards,
    )


def rollout_metrics(rollouts: pandas.DataFrame, rewards: RewardBatch, expected_responses: int) -> dict[str, float]:
    """What is logged: `reward/*` from the rewards, `rollout/*` from the sampling.

    Where a step has several updates (separate_async), verl combines their metrics by name: it adds up what is called
    "total" and takes the mean of the others.
    """
    copies = rollouts.groupby("uid")["perturbed_response"].count()
    labelled = rollouts[rollouts["chain"].isna()].groupby("uid")["perturbed_response"].count()
    return {
        **{f"reward/{name}": float(value) for name, value in rewards.metrics().items()},
        "rollout/total_original_tokens": float(rollouts["num_tokens"].sum()),
        "rollout/total_perturbed_tokens": float(rollouts["perturbed_tokens"].sum()),
        "rollout/total_perturbed_responses": float(copies.sum()),
        "rollout/total_videos_without_perturbed": float((labelled == 0).sum()),
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
    before = path.read_text(encoding="utf-8") if update else ""
    write_text(path, before + "".join(map(json_line, rows)))  # a run may be killed here: complete or absent
