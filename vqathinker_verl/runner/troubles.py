"""Conditions of a training step that indicate a problem, and their thresholds."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from vqathinker_verl.runner.metrics_log import number

NO_SCORE = 0.05  # share of the answers, if it is also above the mean of the last few steps
RECENT_STEPS = 3
SPREAD = 0.05  # standard deviation of the rewards of one video's answers
KL = 0.5
FORMAT = 0.9
PROBABILITY_GAP = 0.05


class Trouble(NamedTuple):
    """One condition: the metric it is seen in, and what it means."""

    metric: str
    text: str


def troubles_of(
    data: Mapping[str, Any], earlier: Sequence[Mapping[str, Any]], max_response_length: int | None
) -> list[Trouble]:
    """What is wrong with one training step.

    Args:
        data: the step's metrics.
        earlier: metrics of the steps before it, the last one last.
        max_response_length: `data.max_response_length` in tokens; None where it is not known.
    """
    found = []

    def check(metric: str, bad: bool, text: str) -> None:
        if bad:
            found.append(Trouble(metric, text))

    no_score = number(data, "reward/parse_failure_rate")
    recent = [number(step, "reward/parse_failure_rate") for step in earlier[-RECENT_STEPS:]]
    rising = bool(recent) and no_score > sum(recent) / len(recent)
    check(
        "reward/parse_failure_rate",
        no_score > NO_SCORE and rising,
        f"{no_score:.1%} of the answers have no score, and their share is rising",
    )
    spread = number(data, "reward/group_std")
    check(
        "reward/group_std",
        spread < SPREAD,
        f"the answers to a video earn nearly equal rewards (spread {spread:.3f}), so there is little to learn from",
    )
    kl = number(data, "actor/kl_loss")
    check("actor/kl_loss", kl > KL, f"KL {kl:.2f}: the model has moved far from the reference model")
    well_formed = number(data, "reward/format")
    check("reward/format", well_formed < FORMAT, f"only {well_formed:.1%} of the answers have the required format")
    failed = number(data, "rollout/total_failed_responses")
    check("rollout/total_failed_responses", failed > 0, f"{failed:.0f} answers failed; train.log has the reasons")
    gap = number(data, "training/rollout_probs_diff_max")
    check(
        "training/rollout_probs_diff_max",
        gap > PROBABILITY_GAP,
        f"sampler and trainer disagree about the probability of a token by up to {gap:.2f}",
    )
    longest = number(data, "response_length/max")
    limit = math.inf if max_response_length is None else max_response_length
    check(
        "response_length/max",
        longest >= limit,
        f"the longest answer has {longest:.0f} tokens and was cut off (data.max_response_length)",
    )
    return found
