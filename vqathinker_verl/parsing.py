"""From a response's text to its score or its choice: the only place with regular expressions.

Every step takes time linear in the text, also on megabytes of unclosed or nested tags: tags are found with `str.find`
and `str.rfind`, and no pattern can give back more than it took.
"""

import math
import re
from collections.abc import Collection, Sequence
from typing import Literal, NamedTuple, get_args

from vqathinker_verl.prompts import SCORE_RANGE

Fallback = Literal["none", "text"]
Decimals = Literal["written", "value"]
Numbers = Literal["strict", "first"]

_THINK_OPEN = "<think>"
_ANSWER_OPEN, _ANSWER_CLOSE = "<answer>", "</answer>"
_THINK_TO_ANSWER = re.compile(r"</think>\s*<answer>")

# A number as a model may write it. What the pattern must not do is find a score where none was given:
# "-3.5" is not 3.5 (a hyphen after a word or a digit, "MOS-3.5", is no sign), ".5" is not 5, "3e2" is not 3, and
# "nan" before a number is an answer that is not a number.
_NUMBER = re.compile(
    r"(?P<sign>(?<!\w)[-+\u2212])?"
    r"(?:(?P<whole>\d+)(?:\.(?P<fraction>\d*))?|(?<!\.)\.(?P<bare_fraction>\d+))"
    r"(?P<exponent>[eE][-+]?\d+)?"
    r"|(?<!\w)(?P<not_finite>nan|inf|infinity)(?!\w)",
    re.IGNORECASE,
)

# The same with the decimal signs that models write: "4.20", "4,20", a full-width full stop, the Arabic decimal sign. A
# comma needs digits on both sides, since it also ends a clause.
_STRICT_NUMBER = re.compile(
    r"(?P<sign>(?<!\w)[-+\u2212])?"
    r"(?:(?P<whole>\d+)(?:(?P<point>[.\uff0e\u066b])(?P<fraction>\d*)|,(?P<after_comma>\d+))?"
    r"|(?<![.\uff0e\u066b])[.\uff0e\u066b](?P<bare_fraction>\d+))"
    r"(?P<exponent>[eE][-+]?\d+)?"
    r"|(?<!\w)(?P<not_finite>nan|inf|infinity)(?!\w)",
    re.IGNORECASE,
)

_TO_ASCII = str.maketrans({"\u2212": "-", ",": ".", "\uff0e": ".", "\u066b": "."})

# What makes a number part of something else, read from the number's end. Marks of emphasis and closing brackets may
# stand between ("**4.00**/10"). No quantifier below is followed by one that takes the same characters.
_CLOSING, _OPENING = r"[\s*`$\"'}\])]*", r"[\s*`$\"'({\[]*(?:\\boxed\{)?"
_RATIO = re.compile(
    _CLOSING + r"(?:[/\u2044\u2215\uff0f]|(?:out\s+)?of\b)" + _OPENING + r"(?:(?P<number>\d+(?:[.,\uff0e\u066b]\d+)?)"
    r"|(?P<word>five|ten|hundred)\b)",
    re.IGNORECASE,
)
_SCALES = {"five": 5.0, "ten": 10.0, "hundred": 100.0}
_PART_OF_MORE = re.compile(
    r"[.,:_'\u2019\u00b7\u060c\u066b\u066c\uff0c\uff0e\uff1a]\d"  # a version, a date, a time, a number of groups: 4.2.0
    rf"|{_CLOSING}(?:[-\u2010-\u2015\u2212~\u301c\uff5e]|\.\.+|\u2026|to\b){_OPENING}[.,\uff0e\u066b]?\d"  # 3.50-4.00
    rf"|{_CLOSING}[%\u066a\uff05]",
    re.IGNORECASE,
)
_BETWEEN = re.compile(r"\bbetween[\s*`$\"'({\[]*\Z", re.IGNORECASE)

# The words of a text: letters and digits of any script. Underscores part words, as other marks do.
_WORD = re.compile(r"[^\W_]+")

# Of the options of a question, in their order.
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class ParsedAnswer(NamedTuple):
    """What a response says.

    Attributes:
        score: the predicted MOS; NaN if the response gives no score.
        decimals: digits after the decimal point of the score; 0 if there is none.
        well_formed: whether the whole response is `<think>…</think>`, white space, `<answer>…</answer>`.
    """

    score: float
    decimals: int
    well_formed: bool


def parse_answer(
    text: str,
    *,
    fallback: Fallback = "none",
    score_range: tuple[float, float] | None = SCORE_RANGE,
    decimals: Decimals = "written",
    numbers: Numbers = "strict",
    prompt_opens_think: bool = False,
    tags: tuple[str, str] = (_ANSWER_OPEN, _ANSWER_CLOSE),
    key: str | None = None,
) -> ParsedAnswer:
    r"""Return the score of one response (docs/rewards.md).

    The answer is the last `<answer>…</answer>` block, its score the first number in it. Where opening tags nest, the
    block begins at the last of them: a model that quotes the tag while it thinks is not scored by its thoughts.

    Args:
        text: the response; any string is accepted.
        fallback: "none": without a block there is no score. "text": without a block, the first number of the whole
            text (the released code).
        score_range: lowest and highest score accepted; a number outside gives no score. None accepts any number.
        decimals: "written" counts the digits as written ("3.50" has two), "value" after dropping trailing zeros
            ("3.50" has one; the released code).
        numbers: "strict": the first number is a score only if it is a plain one: "4.20", "4,20", "**4.20**",
            "Score: 4.20", and "4.20/5" where 5 is the highest score. A range ("3.50-4.00"), a ratio of another scale
            ("4.00/10"), a percentage, or a number of more parts ("4.2.0", "4:20") gives no score, and neither does a
            comma before exactly three digits, which may part thousands. "first": the first number, whatever stands
            beside it, with "." as the only decimal sign (the released code).
        prompt_opens_think: whether the prompt ends with `<think>`, so that a response continues the reasoning; it is
            then well formed without a `<think>` of its own.
        tags: what opens and closes the answer block.
        key: the name of the number in an answer that is JSON; the first number behind `"key":` counts, and a block
            without that key gives no score.

    Raises:
        TypeError: if `text` is not a string.
        ValueError: if an option is not one of those named above.

    >>> parse_answer("<think>Sharp, some noise.</think><answer>3.50</answer>")
    ParsedAnswer(score=3.5, decimals=2, well_formed=True)
    >>> parse_answer("It is a 3.50")
    ParsedAnswer(score=nan, decimals=0, well_formed=False)
    >>> parse_answer(r"<answer>\boxed{4,20}</answer>").score, parse_answer("<answer>4.00/10</answer>").score
    (4.2, nan)
    """
    if not isinstance(text, str):
        raise TypeError(f"text: expected a string, got {type(text).__name__}")
    check_choice("fallback", fallback, Fallback)
    check_choice("decimals", decimals, Decimals)
    check_choice("numbers", numbers, Numbers)
    well_formed = is_well_formed(text, prompt_opens_think=prompt_opens_think)
    answer = last_answer(text, tags)
    if answer is None and fallback == "text":
        answer = text
    if answer is not None and key is not None:
        answer = _value_of(key, answer)
    read = _strict_number if numbers == "strict" else _first_number
    score, fraction = read(answer or "", score_range)
    in_range = score_range is None or score_range[0] <= score <= score_range[1]
    if not (math.isfinite(score) and in_range):
        return ParsedAnswer(math.nan, 0, well_formed)
    return ParsedAnswer(score, len(fraction if decimals == "written" else fraction.rstrip("0")), well_formed)


def _first_number(text: str, _: tuple[float, float] | None) -> tuple[float, str]:
    """Return the first number of a text, NaN without one, and the digits after its point."""
    number = _NUMBER.search(text)
    if number is None or number["not_finite"]:
        return math.nan, ""
    # float() knows every digit that \d does, but only the ASCII minus.
    return float(number[0].replace("\u2212", "-")), number["fraction"] or number["bare_fraction"] or ""


def _strict_number(text: str, score_range: tuple[float, float] | None) -> tuple[float, str]:
    """Return the first number of a text if it is a plain one, else NaN, and its decimals; see `parse_answer`."""
    number = _STRICT_NUMBER.search(text)
    if number is None or number["not_finite"]:
        return math.nan, ""
    thousands = number["after_comma"] is not None and len(number["after_comma"]) == 3
    if thousands or _BETWEEN.search(text, max(0, number.start() - 40), number.start()):
        return math.nan, ""
    end = number.end()
    if ratio := _RATIO.match(text, end):
        scale = _SCALES[ratio["word"].lower()] if ratio["word"] else _value(ratio["number"])
        # Without a range, any scale will do.
        if score_range is not None and scale != score_range[1]:
            return math.nan, ""
        end = ratio.end()
        if _RATIO.match(text, end):  # a date: 4/5/2024
            return math.nan, ""
    if _PART_OF_MORE.match(text, end):
        return math.nan, ""
    return _value(number[0]), number["fraction"] or number["after_comma"] or number["bare_fraction"] or ""


def _value(number: str) -> float:
    # float() knows every digit that \d does, but only the ASCII minus and point.
    return float(number.translate(_TO_ASCII))


def last_answer(text: str, tags: tuple[str, str] = (_ANSWER_OPEN, _ANSWER_CLOSE)) -> str | None:
    """Return what the last `<answer>…</answer>` block of `text` holds, or None if no block is closed."""
    opens, closes = tags
    last_close = text.rfind(closes)
    opening = text.rfind(opens, 0, max(last_close, 0))
    if opening < 0:
        return None
    begin = opening + len(opens)
    return text[begin : text.find(closes, begin)]


def _value_of(key: str, answer: str) -> str | None:
    """Return what stands behind `"key":` in an answer, or None."""
    _, found, rest = answer.partition(f'"{key}"')
    rest = rest.lstrip()
    return rest[1:] if found and rest.startswith(":") else None


def up_to_answer(text: str) -> str | None:
    """Return a response up to and with the `<answer>` that `last_answer` reads; None if it opens none.

    Of a response that closes no block the last `<answer>` counts.

    >>> up_to_answer("<think>Sharp.</think><answer>3.50</answer>")
    '<think>Sharp.</think><answer>'
    """
    opening = text.rfind(_ANSWER_OPEN, 0, max(text.rfind(_ANSWER_CLOSE), 0))
    if opening < 0:
        opening = text.rfind(_ANSWER_OPEN)
    return None if opening < 0 else text[: opening + len(_ANSWER_OPEN)]


def is_well_formed(text: str, *, prompt_opens_think: bool = False) -> bool:
    r"""Return whether the whole text matches `<think>.*</think>\s*<answer>.*</answer>`, dot matching newlines.

    With `prompt_opens_think`, the prompt's `<think>` counts as the beginning of the text.

    The first `</think>`, white space, `<answer>` decides: a later one cannot leave more room for the closing tag. A
    pattern for the whole text would try each of them, in quadratic time.
    """
    begins = prompt_opens_think or text.startswith(_THINK_OPEN)
    if not (begins and text.endswith(_ANSWER_CLOSE)):
        return False
    middle = _THINK_TO_ANSWER.search(text, 0 if prompt_opens_think else len(_THINK_OPEN))
    return middle is not None and middle.end() <= len(text) - len(_ANSWER_CLOSE)


def ends_with_think(prompt: str) -> bool:
    r"""Return whether a prompt ends with `<think>`, white space after it or not, for the model to continue.

    >>> ends_with_think("<|im_start|>assistant\n<think>\n"), ends_with_think("<think>\n\n</think>\n\n")
    (True, False)
    """
    return prompt.rstrip().endswith(_THINK_OPEN)


def check_choice(name: str, value: object, choices: object) -> None:
    """Raise ValueError, naming the option, if `value` is not one of the strings of the Literal type `choices`."""
    allowed = get_args(choices)
    if value not in allowed:
        raise ValueError(f"{name}: expected one of {', '.join(map(repr, allowed))}, got {value!r}")


def words_of(text: str) -> list[str]:
    """Return the words of a text in order, case folded; marks, brackets and white space part them.

    >>> words_of("(B) Motion-blur.")
    ['b', 'motion', 'blur']
    """
    return [word.casefold() for word in _WORD.findall(text)]


def parse_choice(text: str, options: Sequence[str], *, letters: bool = True) -> int | None:
    """Return the index of the option that a response chooses, or None for no answer.

    As strict as `parse_answer`: the answer is the last `<answer>…</answer>` block, and all of the block must be one
    option: its letter ("B", "(b)"), its text, or both ("B. Motion blur"). Case, marks and spaces do not count, words
    do. A block that says anything else ("B or C", "probably B", "B. Blur" where C is blur) is no answer, and neither
    is one that means two options, as where option A reads "B".

    Args:
        text: the response; any string is accepted.
        options: the options' texts, two or more, in the order of their letters.
        letters: whether the options were shown with letters; a question for yes or no has none.

    Raises:
        TypeError: if `text` is not a string.
        ValueError: if `options` are fewer than two or more than there are letters.

    >>> parse_choice("<think>Soft edges.</think><answer>B. Blur</answer>", ["Noise", "Blur"])
    1
    >>> parse_choice("<answer>No.</answer>", ["Yes", "No"], letters=False)
    1
    >>> parse_choice("B", ["Noise", "Blur"]) is None
    True
    """
    if not isinstance(text, str):
        raise TypeError(f"text: expected a string, got {type(text).__name__}")
    if not 2 <= len(options) <= len(LETTERS):
        raise ValueError(f"options: expected 2 to {len(LETTERS)}, got {len(options)}")
    answer = last_answer(text)
    chosen = [] if answer is None else option_matches(answer, options, letters=letters)
    return chosen[0] if len(chosen) == 1 else None


def option_matches(answer: str, options: Sequence[str], *, letters: bool = True) -> list[int]:
    """Return the indices of the options that all of `answer` names, by letter, text or both; see `parse_choice`."""
    said = words_of(answer)
    matches = []
    for index, option in enumerate(options):
        words = words_of(option)
        letter = [LETTERS[index].casefold()]
        ways = (words, letter, letter + words) if letters else (words,)
        if said and said in ways:
            matches.append(index)
    return matches


def named_words(text: str, words: Collection[str]) -> frozenset[str]:
    """Return which of `words` (single words, lower case) a text names, each as a whole word in any case.

    Only what stands before the last `<answer>` counts: the reasoning. Words are found, not understood: "not blurry"
    names "blurry".

    >>> sorted(named_words("<think>Dark, and very Grainy.</think><answer>2.00</answer>", {"dark", "grainy", "sharp"}))
    ['dark', 'grainy']
    """
    opening = text.rfind(_ANSWER_OPEN)
    return frozenset(words_of(text if opening < 0 else text[:opening])) & frozenset(words)
