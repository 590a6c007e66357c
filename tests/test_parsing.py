import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqathinker_verl import parse_answer
from vqathinker_verl.parsing import is_well_formed

NO_SCORE = math.nan


def same(score, expected):
    return score == expected or (math.isnan(score) and math.isnan(expected))


@pytest.mark.parametrize(
    ("text", "score", "decimals"),
    [
        ("<answer>3.50</answer>", 3.5, 2),
        ("<think>a</think><answer> 4 </answer>", 4.0, 0),
        ("<answer>4.</answer>", 4.0, 0),
        ("<answer>4.125</answer>", 4.125, 3),
        ("<answer>1</answer>", 1.0, 0),
        ("<answer>5.00</answer>", 5.0, 2),
        ("<answer>about 2.25 of 5</answer>", 2.25, 2),
        ("<answer>3.50/5</answer>", 3.5, 2),
        ("<answer>Rating...3.50</answer>", 3.5, 2),
        ("<answer>MOS-3.50</answer>", 3.5, 2),
        ("<answer>+3.50</answer>", 3.5, 2),
        ("<answer>35e-1</answer>", 3.5, 0),
        ("<answer>the banana is 3.50</answer>", 3.5, 2),  # "nan" inside a word is no number
        # The last block counts, and in it the first number.
        ("<answer>1.00</answer><answer>2.00 or 3.00</answer>", 2.0, 2),
        ("<think>first <answer>1.11</answer> no</think><answer>1.31</answer>", 1.31, 2),
        ("<answer>1.00</answer> text <answer>2.00", 1.0, 2),
        ("<think>I must use <answer> tags, 1 of 5</think><answer>4.20</answer>", 4.2, 2),
        ("<answer><answer>3.50</answer></answer>", 3.5, 2),
        ("<answer>3.50</answer> 2.00 </answer>", 3.5, 2),
        ("<answer>2.00</answer><answer></answer>", NO_SCORE, 0),
        # No block.
        ("", NO_SCORE, 0),
        ("3.50", NO_SCORE, 0),
        ("<answer>3.50", NO_SCORE, 0),
        ("3.50</answer>", NO_SCORE, 0),
        ("</answer>3.50<answer>", NO_SCORE, 0),
        ("<Answer>3.50</Answer>", NO_SCORE, 0),
        # No number, or none that is a score.
        ("<answer>good</answer>", NO_SCORE, 0),
        ("<answer>NaN</answer>", NO_SCORE, 0),
        ("<answer>inf, or 3.00</answer>", NO_SCORE, 0),
        ("<answer>-Infinity</answer>", NO_SCORE, 0),
        ("<answer>0.99</answer>", NO_SCORE, 0),
        ("<answer>5.01</answer>", NO_SCORE, 0),
        ("<answer>-3.50</answer>", NO_SCORE, 0),
        ("<answer>\u22123.50</answer>", NO_SCORE, 0),
        ("<answer>.5</answer>", NO_SCORE, 0),
        ("<answer>3e2</answer>", NO_SCORE, 0),
        ("<answer>1e999</answer>", NO_SCORE, 0),
        ("<answer>85 of 100</answer>", NO_SCORE, 0),
        # Characters that trip other parsers.
        ("<answer>\ud8003.50\x00</answer>", 3.5, 2),
        ("<answer>\uff13.\uff15\uff10</answer>", 3.5, 2),  # full-width digits
        ("<answer>\u00bd</answer>", NO_SCORE, 0),
    ],
)
def test_score_and_decimals(text, score, decimals):
    answer = parse_answer(text)
    assert same(answer.score, score)
    assert answer.decimals == decimals


@pytest.mark.parametrize(
    ("answer", "score", "decimals"),
    [
        # The marks that people and models write for a decimal point.
        ("4,20", 4.2, 2),
        ("4\uff0e20", 4.2, 2),
        ("\uff14\uff0e\uff12\uff10", 4.2, 2),
        ("\u0664\u066b\u0662\u0660", 4.2, 2),
        ("4,2", 4.2, 1),
        ("4, clear and bright", 4.0, 0),
        ("4.20, clear", 4.2, 2),
        # What surrounds a plain number.
        ("**4.20**", 4.2, 2),
        (r"\boxed{4.20}", 4.2, 2),
        (r"$\boxed{4.20}$", 4.2, 2),
        ("Score: 4.20", 4.2, 2),
        ("Score: **4.20**.", 4.2, 2),
        ("4.20 (good)", 4.2, 2),
        ("[4.20]", 4.2, 2),
        ("\u8bc4\u5206\uff1a4.20\u5206", 4.2, 2),
        ("2.00 or 3.00", 2.0, 2),
        ("3.50 to be fair", 3.5, 2),
        # A ratio of the scale asked for.
        ("4.20/5", 4.2, 2),
        ("4.20 / 5.00", 4.2, 2),
        ("**4.20**/5", 4.2, 2),
        ("4.20 out of 5 stars", 4.2, 2),
        ("4.20 out of five", 4.2, 2),
        (r"\boxed{4.20}/5", 4.2, 2),
        # A ratio of another scale, or a percentage.
        ("4.00/10", NO_SCORE, 0),
        ("4.00 / 10", NO_SCORE, 0),
        ("4.00/5.5", NO_SCORE, 0),
        ("4.00/50", NO_SCORE, 0),
        ("**4.00**/10", NO_SCORE, 0),
        (r"\boxed{4.00}/10", NO_SCORE, 0),
        ("4 out of 10", NO_SCORE, 0),
        ("4 out of ten", NO_SCORE, 0),
        ("4\uff0f10", NO_SCORE, 0),
        ("4%", NO_SCORE, 0),
        # Ranges.
        ("3.50-4.00", NO_SCORE, 0),
        ("3.50 - 4.00", NO_SCORE, 0),
        ("3.50\u20134.00", NO_SCORE, 0),
        ("3.50\u22124.00", NO_SCORE, 0),
        ("3.50~4.00", NO_SCORE, 0),
        ("3.50\uff5e4.00", NO_SCORE, 0),
        ("3.50 to 4.00", NO_SCORE, 0),
        ("3.50...4.00", NO_SCORE, 0),
        ("**3.50**-**4.00**", NO_SCORE, 0),
        (r"\boxed{3.50}-\boxed{4.00}", NO_SCORE, 0),
        ("between 3.50 and 4.00", NO_SCORE, 0),
        ("3.50/5-4.00/5", NO_SCORE, 0),
        ("(1-5): 4.20", NO_SCORE, 0),
        # Numbers of more parts.
        ("4.2.0", NO_SCORE, 0),
        ("4,2,0", NO_SCORE, 0),
        ("4.2,0", NO_SCORE, 0),
        ("4/5/2024", NO_SCORE, 0),
        ("4:20", NO_SCORE, 0),
        ("4,200", NO_SCORE, 0),  # or four thousand two hundred
        ("1_0", NO_SCORE, 0),
    ],
)
def test_only_a_plain_number_is_a_score(answer, score, decimals):
    parsed = parse_answer(f"<answer>{answer}</answer>")
    assert same(parsed.score, score)
    assert parsed.decimals == decimals


@pytest.mark.parametrize(
    ("answer", "score", "decimals"),
    [("3.50-4.00", 3.5, 2), ("4.00/10", 4.0, 2), ("4.2.0", 4.2, 1), ("4,20", 4.0, 0), ("4.20", 4.2, 2)],
)
def test_the_first_number_as_the_release_reads_it(answer, score, decimals):
    parsed = parse_answer(f"<answer>{answer}</answer>", numbers="first")
    assert (parsed.score, parsed.decimals) == (score, decimals)


def test_the_scale_of_a_ratio_is_the_highest_score():
    assert parse_answer("<answer>40/100</answer>", score_range=(0, 100)).score == 40.0
    assert math.isnan(parse_answer("<answer>4/5</answer>", score_range=(0, 100)).score)
    assert parse_answer("<answer>4/10</answer>", score_range=None).score == 4.0


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("I would rate it 2.46 out of five.", 2.46),
        ("I would rate it 7.25 out of ten.", NO_SCORE),
        ("2.00 <answer>3.00</answer>", 3.0),
        ("2.00 <answer>good</answer>", NO_SCORE),  # there is a block, and it holds no number
        ("<answer>2.50", 2.5),
        ("good", NO_SCORE),
    ],
)
def test_text_fallback_reads_the_full_text_only_without_a_block(text, score):
    assert same(parse_answer(text, fallback="text").score, score)


def test_without_a_range_any_number_is_a_score():
    assert parse_answer("<answer>85</answer>", score_range=None).score == 85.0
    assert parse_answer("<answer>-2.5</answer>", score_range=None).score == -2.5
    assert math.isnan(parse_answer("<answer>1e999</answer>", score_range=None).score)


def test_another_range():
    assert parse_answer("<answer>85</answer>", score_range=(0, 100)).score == 85.0
    assert math.isnan(parse_answer("<answer>101</answer>", score_range=(0, 100)).score)


@pytest.mark.parametrize(
    ("number", "written", "value"), [("3.50", 2, 1), ("3.00", 2, 0), ("3.05", 2, 2), ("3", 0, 0), ("3.500", 3, 1)]
)
def test_decimals_as_written_or_of_the_value(number, written, value):
    text = f"<answer>{number}</answer>"
    assert parse_answer(text).decimals == written
    assert parse_answer(text, decimals="value").decimals == value


@pytest.mark.parametrize(
    ("text", "well_formed"),
    [
        ("<think>a</think><answer>1</answer>", True),
        ("<think>a\nb</think> \n\t<answer>\n1\n</answer>", True),
        ("<think></think><answer></answer>", True),
        ("<think>a</think><answer>good</answer>", True),
        ("<think>a</think>b</think><answer>1</answer>", True),
        ("<think>a</think><answer>1</answer>b</answer>", True),
        ("<think>a</think>\u00a0<answer>1</answer>", True),
        ("<think>a</think>so<answer>1</answer>", False),
        (" <think>a</think><answer>1</answer>", False),
        ("<think>a</think><answer>1</answer>\n", False),
        ("<think>a<answer>1</answer>", False),
        ("a</think><answer>1</answer>", False),
        ("<answer>1</answer>", False),
        ("<think></think><answer>", False),
        ("<think></answer>", False),
        ("", False),
    ],
)
def test_well_formed(text, well_formed):
    assert is_well_formed(text) is well_formed
    assert parse_answer(text).well_formed is well_formed


@pytest.mark.parametrize(
    ("text", "well_formed"),
    [
        ("a\n</think>\n<answer>1</answer>", True),
        ("</think><answer>1</answer>", True),
        ("<think>a</think><answer>1</answer>", True),  # the model opens the reasoning once more
        ("<answer>1</answer>", False),
        ("a</think>so<answer>1</answer>", False),
        ("a</think><answer>1</answer>\n", False),
    ],
)
def test_a_response_may_continue_the_reasoning_that_the_prompt_opens(text, well_formed):
    assert is_well_formed(text, prompt_opens_think=True) is well_formed
    assert parse_answer(text, prompt_opens_think=True).well_formed is well_formed


@given(st.lists(st.sampled_from(["<think>", "</think>", "<answer>", "</answer>", " ", "\n", "a", "3.5"])).map("".join))
def test_well_formed_is_what_the_pattern_says(text):
    import re

    pattern = re.compile(r"<think>.*</think>\s*<answer>.*</answer>", re.DOTALL)
    assert is_well_formed(text) == bool(pattern.fullmatch(text))
    assert is_well_formed(text, prompt_opens_think=True) == bool(pattern.fullmatch("<think>" + text))


TAGS_AND_NUMBERS = st.sampled_from(
    ["<think>", "</think>", "<answer>", "</answer>", " ", "-", ".", "3", "4.5", "e9", "nan", "\ud800", "\x00", "x"]
)


@given(st.one_of(st.text(), st.lists(TAGS_AND_NUMBERS).map("".join)))
def test_any_string_gives_a_score_in_range_or_none(text):
    for fallback in ("none", "text"):
        answer = parse_answer(text, fallback=fallback)
        assert math.isnan(answer.score) or 1.0 <= answer.score <= 5.0
        assert answer.decimals >= 0
        if math.isnan(answer.score):
            assert answer.decimals == 0
    if not any(character.isdigit() for character in text):
        assert math.isnan(parse_answer(text, fallback="text").score)


@given(st.integers(100, 500))
def test_every_score_of_two_decimals_is_read_back(hundredths):
    text = f"<think>x</think><answer>{hundredths / 100:.2f}</answer>"
    assert parse_answer(text) == (hundredths / 100, 2, True)


HARD_TEXTS = {
    "unclosed tags": lambda n: "<answer>" * (n // 8),
    "closing tags": lambda n: "</answer>" * (n // 9),
    "nested tags": lambda n: "<answer>" * (n // 17) + "</answer>" * (n // 17),
    "thoughts without an end": lambda n: "<think>" * (n // 7) + "</answer>",
    "thoughts that end often": lambda n: "<think>" + "</think> " * (n // 9) + "</answer>",
    "thoughts and answers": lambda n: "<think>" + "</think><answer>" * (n // 16) + "x",
    "digits": lambda n: "<answer>" + "1" * n + "</answer>",
    "decimals": lambda n: "<answer>3." + "0" * n + "</answer>",
    "dots": lambda n: "<answer>" + "." * n + "</answer>",
    "signs": lambda n: "<answer>" + "-" * n + "</answer>",
    "digits and exponents": lambda n: "<answer>" + "x" + "1e" * (n // 2) + "</answer>",
    "white space after a number": lambda n: "<answer>3.50" + " " * n + "x</answer>",
    "emphasis after a number": lambda n: "<answer>3.50" + "*`" * (n // 4) + "/" + "*`" * (n // 4) + "</answer>",
    "between": lambda n: "<answer>" + "between " * (n // 9) + " " * (n // 9) + "3.50</answer>",
    "ratios": lambda n: "<answer>" + "3/5" * (n // 3) + "</answer>",
    "a long scale": lambda n: "<answer>3/" + "5" * n + "</answer>",
    "white space": lambda n: "<think></think>" + " " * n + "</answer>",
    "white space in an answer": lambda n: "<answer>" + "\n\t" * (n // 2) + "</answer>",
    "surrogates and NUL": lambda n: "\ud800\x00" * (n // 2),
}


# Linear time needs a second for two megabytes, on any machine; quadratic time minutes to hours.
@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", HARD_TEXTS)
def test_megabytes_take_linear_time(name):
    parse_answer(HARD_TEXTS[name](2_000_000), fallback="text")


@pytest.mark.parametrize("text", [None, 3.5, b"<answer>3.50</answer>"])
def test_what_is_no_string_is_refused(text):
    with pytest.raises(TypeError, match="expected a string"):
        parse_answer(text)


def test_unknown_options_are_refused():
    with pytest.raises(ValueError, match="fallback: expected one of 'none', 'text', got 'random'"):
        parse_answer("", fallback="random")
    with pytest.raises(ValueError, match="decimals: expected one of 'written', 'value'"):
        parse_answer("", decimals="two")
    with pytest.raises(ValueError, match="numbers: expected one of 'strict', 'first', got 'last'"):
        parse_answer("", numbers="last")
