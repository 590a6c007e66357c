"""Format reward: whether a response is laid out as the prompt asks."""

from collections.abc import Iterable

import numpy as np

from vqathinker_verl.checks import FloatArray
from vqathinker_verl.parsing import is_well_formed
from vqathinker_verl.rewards.inputs import Responses


def format_reward(responses: Iterable[str], *, prompt_opens_think: bool = False) -> FloatArray:
    """Return 1 for each response that is `<think>…</think>`, white space, `<answer>…</answer>`, else 0: shape (N,).

    The content of the tags does not matter; text before the first or after the last tag does (docs/rewards.md).
    With `prompt_opens_think` the prompt ends with `<think>`, and a response continues it.

    >>> format_reward(["<think>Sharp.</think> <answer>4.20</answer>", "4.20"]).tolist()
    [1.0, 0.0]
    """
    if isinstance(responses, str):
        raise TypeError("responses: expected a sequence of strings, got one string")
    return np.array(
        [is_well_formed(response, prompt_opens_think=prompt_opens_think) for response in responses], dtype=np.float64
    )


def batch_format(batch: Responses, *, prompt_opens_think: bool = False) -> FloatArray:
    """Return the format reward (N,) of a batch."""
    return format_reward(batch.responses, prompt_opens_think=prompt_opens_think)
