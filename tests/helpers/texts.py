"""Hostile responses, and what must hold of every response whatever it says."""

import math
import random

from vqathinker_verl import format_reward, parse_answer
from vqathinker_verl.parsing import named_words, parse_choice
from vqathinker_verl.prompts import SCORE_RANGE

PIECES = [
    "<think>", "</think>", "<answer>", "</answer>", "<answer", "answer>", "</", "<", ">", "<Answer>", "<think/>",
    " ", "\n", "\t", "\r", "\u00a0", "\u200b", "\u2028", "\x0b", "\x1c", "\x85", "\x00", "\ufeff", "\u202e", "\ud800",
    "3.50", "3", "5.01", "0.99", "-3.5", "+4", "\u22122", ".5", "5.", "1e0", "1e999", "4E-1", "1e", "nan", "inf",
    "-Infinity", "0x3", "1_0", "3,5", "3..5", "3.50-4.00", "4.00/10", "4.20/5",
    "between ", " to ", "4,20", "4\uff0e20", "\u0664\u066b\u0662", "**4.20**", "\\boxed{4.20}",
    "\u0663.\u0665", "\uff13", "\u00bd", "²", "1" * 50, "0" * 400, "." * 40,
    "-" * 40, "9" * 5000, "A", "b.", "(C)", "D)", "E", "A or B", "yes", "No.", "not", "noise", "blur", "Motion blur",
    "BLUR", "\uff22", "ß", "İ", "grainy", "dark", "压缩伪影", "e\u0301", "\U0001f600", "_", "The quality is ",
    "out of 5", "<script>", "&lt;", "{}", "%s", "\\",
]  # fmt: skip
OPTIONS = ["Noise", "Motion blur", "Blur", "B"]


def response(rng):
    """A text of pieces; half of them laid out as the prompt asks, and then damaged or not."""
    pieces = rng.choices(PIECES, k=rng.randrange(25))
    if rng.random() < 0.5:
        return "".join(pieces)
    cut = rng.randrange(len(pieces) + 1)
    thoughts, answer = "".join(pieces[:cut]), "".join(pieces[cut:])
    text = f"<think>{thoughts}</think>{rng.choice(['', ' ', chr(10)])}<answer>{answer}</answer>"
    if rng.random() < 0.3:
        first, last = sorted(rng.choices(range(len(text)), k=2))
        text = text[:first] + text[last:]
    return text


def responses(count, seed=0):
    rng = random.Random(seed)
    return (response(rng) for _ in range(count))


def check(text):
    """Raise unless each parser gives what it may give; returns what it was: "score", "choice" or "neither"."""
    lowest, highest = SCORE_RANGE
    found = []
    for fallback in ("none", "text"):
        for decimals in ("written", "value"):
            answer = parse_answer(text, fallback=fallback, decimals=decimals)
            if math.isnan(answer.score):
                assert answer.decimals == 0
            else:
                assert lowest <= answer.score <= highest
                assert 0 <= answer.decimals <= len(text)
            found.append(answer)
    strict, strict_value, text_too, _ = found
    assert strict_value.decimals <= strict.decimals
    if not math.isnan(strict.score):
        assert text_too == strict  # the fallback changes nothing where there is an answer
        assert "<answer>" in text
    unbounded = parse_answer(text, score_range=None)
    assert math.isnan(unbounded.score) or math.isfinite(unbounded.score)
    first = parse_answer(text, numbers="first")
    if not math.isnan(strict.score) and "," not in text and "\uff0e" not in text and "\u066b" not in text:
        assert first == strict  # strict reads no other number, but refuses some
    assert strict.well_formed <= parse_answer(text, prompt_opens_think=True).well_formed
    assert format_reward([text]).tolist() == [float(strict.well_formed)]
    assert strict.well_formed <= (text.startswith("<think>") and text.endswith("</answer>"))
    choice = parse_choice(text, OPTIONS)
    assert choice is None or 0 <= choice < len(OPTIONS)
    yes_no = parse_choice(text, ["yes", "no"], letters=False)
    assert yes_no in (None, 0, 1)
    assert named_words(text, WORDS) <= WORDS
    if choice is not None or yes_no is not None:
        return "choice"
    return "neither" if math.isnan(strict.score) else "score"


WORDS = frozenset({"grainy", "dark", "noise", "blur"})


# name -> a text of about n characters that a parser could spend quadratic time on; x stands for a drawn piece.
REPEATED = [
    lambda x, n: x * (n // len(x)),
    lambda x, n: "<answer>" + x * (n // len(x)) + "</answer>",
    lambda x, n: "<think>" + x * (n // len(x)) + "</think><answer>3.00</answer>",
    lambda x, n: "<think>" + x * (n // len(x)),
    lambda x, n: x * (n // len(x)) + "</answer>",
]
