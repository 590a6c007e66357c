"""Policies that earn rewards without looking, and honest ones that look and err.

A policy is a function (mos, rng, perturbed) -> G responses.
"""

import numpy as np

from vqathinker_verl.prompts import QUALITY_PROMPT

GROUP_SIZE = 8


def respond(score, decimals=2, thought="It looks a little soft."):
    return f"<think>{thought}</think><answer>{score:.{decimals}f}</answer>"


def honest(noise, perturbed_noise=None):
    """Rates the video with an error of standard deviation `noise`, 0.8 of it the group's and 0.6 each response's.

    A policy that uses the order of the frames errs more, by `perturbed_noise`, on a perturbed copy.
    """

    def policy(mos, rng, perturbed):
        error = perturbed_noise if perturbed and perturbed_noise is not None else noise
        errors = rng.normal(0, 0.8 * error) + rng.normal(0, 0.6 * error, GROUP_SIZE)
        return [respond(score) for score in np.clip(mos + errors, 1, 5)]

    return policy


def always(response):
    return lambda mos, rng, perturbed: [response] * GROUP_SIZE


def degenerate(mean_mos):
    """Name -> policy; `mean_mos` is the mean of all labels, which a policy can learn without looking."""
    return {
        "constant 3.00": always(respond(3.0)),
        "constant, the mean of all labels": always(respond(mean_mos)),
        "around the mean, at random": lambda mos, rng, perturbed: [
            respond(score) for score in np.clip(rng.normal(mean_mos, 0.4, GROUP_SIZE), 1, 5)
        ],
        "any score, at random": lambda mos, rng, perturbed: [respond(score) for score in rng.uniform(1, 5, GROUP_SIZE)],
        "always 1 or 5": lambda mos, rng, perturbed: [respond(score) for score in rng.choice([1.0, 5.0], GROUP_SIZE)],
        "answers outside the tags": always(f"<think>It looks soft.</think> {mean_mos:.2f}"),
        "an answer tag for every score": always(
            "<think>x</think>" + "".join(f"<answer>{tenth / 10:.2f}</answer>" for tenth in range(10, 51))
        ),
        "the prompt's own words": always(f"<think>{QUALITY_PROMPT}</think><answer>{QUALITY_PROMPT}</answer>"),
        "10,000 words of thought": always(respond(mean_mos, thought="soft " * 10_000)),
        "twenty decimals": always(respond(mean_mos, decimals=20)),
    }
