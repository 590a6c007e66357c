"""The expected score: a tree over the characters of the legal answers, read from next-token probabilities.

A legal answer is d.dd in [1, 5]. Its probability is the product over its four characters of the probability of each
after `<answer>` and the characters before it (the closing tag does not count). E[score] is the sum over the legal
answers of value times probability, renormalised over them. The 401 answers share their beginnings, so 52 next-token
distributions give all of it exactly.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vqathinker_verl.prompts import SCORE_RANGE

CHARACTERS = "0123456789."
ANSWERS = tuple(f"{cents / 100:.2f}" for cents in range(round(100 * SCORE_RANGE[0]), round(100 * SCORE_RANGE[1]) + 1))
VALUES = np.array([float(answer) for answer in ANSWERS])
# Beginnings of answers after which one more character is read, shortest first: "", "1", …, "1.", …, "1.0", …
NODES = tuple(
    sorted({answer[:length] for answer in ANSWERS for length in range(4)}, key=lambda node: (len(node), node))
)
# The longest beginnings; the others are parts of these.
PATHS = tuple(node for node in NODES if len(node) == 3)
_PLACES = (
    np.array([[NODES.index(answer[:length]) for length in range(4)] for answer in ANSWERS]),
    np.array([[CHARACTERS.index(character) for character in answer] for answer in ANSWERS]),
)


@dataclass(frozen=True)
class ScoreDistribution:
    """How probable each legal score is, renormalised over them.

    Attributes:
        mean: The expected score, in [1, 5].
        std: Its standard deviation.
        legal_mass: Probability that a legal answer is written at all, in [0, 1].
        probabilities: (401,) of the scores 1.00, 1.01, …, 5.00; they sum to 1.
    """

    mean: float
    std: float
    legal_mass: float
    probabilities: NDArray[np.float64] = field(repr=False, compare=False)


def distribution_of(log_probs: ArrayLike) -> ScoreDistribution:
    """Return the distribution of the score.

    Args:
        log_probs: (52, 11) log probability of each of CHARACTERS as the next token after each of NODES, over the full
            vocabulary.

    Raises:
        ValueError: Another shape, or no legal answer has any probability.
    """
    table = np.asarray(log_probs, np.float64)
    if table.shape != (len(NODES), len(CHARACTERS)):
        raise ValueError(f"log_probs: expected shape {(len(NODES), len(CHARACTERS))}, got {table.shape}")
    logs = table[_PLACES].sum(axis=1)
    largest = logs.max()
    if not math.isfinite(largest):
        raise ValueError("log_probs: expected at least one legal answer with a probability above 0")
    weights = np.exp(logs - largest)
    total = weights.sum()
    probabilities = weights / total
    mean = float(probabilities @ VALUES)
    variance = float(probabilities @ (VALUES - mean) ** 2)
    return ScoreDistribution(mean, math.sqrt(variance), float(math.exp(largest) * total), probabilities)


def character_tokens(encode: Callable[[str], Sequence[int]], model: str) -> dict[str, int]:
    """Return the token of each of CHARACTERS.

    Args:
        encode: Token ids of a text, without special tokens.
        model: What to call the model in the error.

    Raises:
        ValueError: The vocabulary joins characters of an answer, so that they have no probabilities of their own.
    """
    opening = list(encode("<answer>"))
    tokens = {}
    joined = False
    for character in CHARACTERS:
        ids = list(encode("<answer>" + character))
        joined |= ids[:-1] != opening
        tokens[character] = ids[-1]
    single = set(tokens.values())
    texts = [f"<answer>{answer}</answer>" for answer in ANSWERS]
    lines = ("\n".join(texts[begin : begin + 50]) for begin in range(0, len(texts), 50))
    count = sum(token in single for text in lines for token in encode(text))
    if joined or len(single) < len(CHARACTERS) or count != sum(map(len, ANSWERS)):
        raise ValueError(
            f"{model}: its vocabulary joins the characters of a number, so the expectation over them cannot be read; "
            "score with --num-samples K instead"
        )
    return tokens
