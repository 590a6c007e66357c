import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqathinker_verl.parsing import LETTERS, named_words, option_matches, parse_choice, words_of

OPTIONS = ["No visible distortion", "Motion blur", "Blur", "C-shaped noise"]


@pytest.mark.parametrize(
    ("answer", "choice"),
    [
        ("B", 1),
        ("b", 1),
        (" (B) ", 1),
        ("[B].", 1),
        ("**B**", 1),
        ("Motion blur", 1),
        ("MOTION-BLUR!", 1),
        ("B. Motion blur", 1),
        ("B: motion\nblur", 1),
        ("Blur", 2),
        ("C", 2),
        ("C. Blur", 2),
        ("d) c-shaped noise", 3),
        ("C-shaped noise", 3),
        # Anything more, less or else is no answer, however clear it may seem.
        ("", None),
        ("...", None),
        ("E", None),
        ("B or C", None),
        ("B, C", None),
        ("BC", None),
        ("not B", None),
        ("option B", None),
        ("The answer is B", None),
        ("B. Blur", None),
        ("B, because of the motion blur", None),
        ("blurry", None),
        ("2", None),
        ("\uff22", None),  # a full-width B
        ("<b>", 1),
    ],
)
def test_choice_of_the_last_answer_block(answer, choice):
    assert parse_choice(f"<think>A?</think><answer>{answer}</answer>", OPTIONS) == choice


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("B", None),  # no block
        ("<answer>B", None),
        ("B</answer>", None),
        ("<Answer>B</Answer>", None),
        ("<answer>A</answer><answer>B</answer>", 1),
        ("<answer>A</answer><answer></answer>", None),
        ("<think>I must use <answer> tags</think><answer>B</answer>", 1),
        ("<answer>B</answer> C", 1),
    ],
)
def test_only_the_last_closed_block_counts(text, choice):
    assert parse_choice(text, OPTIONS) == choice


@pytest.mark.parametrize(
    ("answer", "choice"), [("yes", 0), ("No.", 1), ("[Yes]", 0), ("yes, it is", None), ("A", None), ("y", None)]
)
def test_yes_or_no_without_letters(answer, choice):
    assert parse_choice(f"<answer>{answer}</answer>", ["yes", "no"], letters=False) == choice


def test_an_answer_that_means_two_options_is_none():
    assert parse_choice("<answer>A</answer>", ["B", "A"]) is None
    assert option_matches("A", ["B", "A"]) == [0, 1]
    assert parse_choice("<answer>A. B</answer>", ["B", "A"]) == 0


def test_options_are_words_of_any_script():
    assert parse_choice("<answer>压缩伪影</answer>", ["饱和度过低", "压缩伪影"]) == 1


@given(st.integers(0, 25), st.sampled_from(["{}", "({})", "{}.", "[{}]", " {} ", "{}) {text}", "{text}"]))
def test_every_option_can_be_chosen(index, form):
    options = [f"option number {n}" for n in range(26)]
    answer = form.format(LETTERS[index], text=options[index])
    assert parse_choice(f"<think></think><answer>{answer}</answer>", options) == index


PIECES = st.sampled_from(
    ["<answer>", "</answer>", " ", "A", "B", "b.", "noise", "blur", "or", "\ud800", "\x00", "压", "_"]
)
TEXTS = st.one_of(st.text(), st.lists(PIECES).map("".join))


@given(TEXTS, st.booleans())
def test_any_string_gives_one_option_or_none_and_never_one_that_it_does_not_say(text, letters):
    options = ["noise", "blur"]
    choice = parse_choice(text, options, letters=letters)
    assert choice in (None, 0, 1)
    if choice is not None:
        said = words_of(text)
        assert options[choice] in said or (letters and LETTERS[choice].lower() in said)
        assert parse_choice(text + "</answer> and more", options, letters=letters) == choice
    if "</answer>" not in text:
        assert choice is None


@given(TEXTS)
def test_named_words_are_separate_words_before_the_answer(text):
    named = named_words(text, {"noise", "blur"})
    assert named <= {"noise", "blur"}
    assert named_words(f"<think>{text} blur</think><answer>noise</answer>", {"blur"}) == {"blur"}
    assert not named_words(f"<answer>{''.join(words_of(text))}blur</answer>", {"blur"})


def test_named_words():
    words = {"dark", "grainy", "sharp"}
    assert named_words("<think>It looks very grainy</think><answer>2.00</answer>", words) == {"grainy"}
    assert named_words("<think>darker</think><answer>dark</answer>", words) == frozenset()
    assert named_words("DARK, and sharp", words) == {"dark", "sharp"}


HARD_TEXTS = {
    "unclosed tags": lambda n: "<answer>" * (n // 8),
    "nested tags": lambda n: "<answer>" * (n // 17) + "</answer>" * (n // 17),
    "one word": lambda n: "<answer>" + "b" * n + "</answer>",
    "many words": lambda n: "<answer>" + "B " * (n // 2) + "</answer>",
    "marks": lambda n: "<answer>" + "._" * (n // 2) + "</answer>",
    "marks and a letter": lambda n: "<answer>" + "." * n + "B</answer>",
    "surrogates and NUL": lambda n: "<answer>" + "\ud800\x00" * (n // 2) + "</answer>",
}


# As for scores: linear time needs about a second for four megabytes, quadratic time minutes to hours.
@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", HARD_TEXTS)
def test_megabytes_take_linear_time(name):
    text = HARD_TEXTS[name](4_000_000)
    parse_choice(text, OPTIONS)
    named_words(text, {"b"})


def test_what_cannot_be_asked_is_refused():
    with pytest.raises(TypeError, match="text: expected a string, got NoneType"):
        parse_choice(None, OPTIONS)
    with pytest.raises(ValueError, match="options: expected 2 to 26, got 1"):
        parse_choice("<answer>A</answer>", ["one"])
