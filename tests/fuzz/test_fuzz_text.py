"""Hostile text through the parsers and the format reward: never an exception, never a score out of range."""

import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from helpers.texts import OPTIONS, PIECES, REPEATED, check, responses
from hypothesis import given, settings
from hypothesis import strategies as st

from vqathinker_verl import format_reward, parse_answer
from vqathinker_verl.parsing import named_words, parse_choice

TEXTS = st.one_of(st.text(), st.text(st.characters()), st.lists(st.sampled_from(PIECES)).map("".join))


def run(count, seed=0):
    kinds = Counter(map(check, responses(count, seed)))
    print(f"{count} texts: {dict(kinds)}")
    # Texts that are all refused would test nothing.
    assert min(kinds[kind] for kind in ("score", "choice", "neither")) > count / 200


def test_four_thousand_texts():
    run(4000)


@given(TEXTS)
def test_texts_that_hypothesis_draws(text):
    check(text)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_million_texts():
    run(1_000_000, seed=1)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@settings(max_examples=20_000)
@given(TEXTS)
def test_more_texts_that_hypothesis_draws(text):
    check(text)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_texts_that_atheris_finds():
    """Led by the branches that a text takes, without the pieces."""
    script = Path(__file__).with_name("atheris_text.py")
    done = subprocess.run([sys.executable, script, "-runs=300000"], capture_output=True, text=True, check=False)
    print(done.stderr[-500:])
    assert done.returncode == 0, done.stderr[-5000:]


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_eight_times_the_text_takes_about_eight_times_as_long():
    """Processor time, the best of three; quadratic time would take 64 times as long, and the bound is 30."""

    def seconds(text):
        best = float("inf")
        for _ in range(3):
            start = time.process_time()
            parse_answer(text, fallback="text")
            format_reward([text])
            parse_choice(text, OPTIONS)
            named_words(text, {"dark"})
            best = min(best, time.process_time() - start)
        return best

    worst = (0.0, "")
    for piece in PIECES:
        for number, make in enumerate(REPEATED):
            # The floor: below it the clock and not the parser is measured.
            ratio = seconds(make(piece, 400_000)) / max(seconds(make(piece, 50_000)), 0.0005)
            worst = max(worst, (ratio, f"{piece!r:.20} in form {number}"))
    print(f"largest ratio {worst[0]:.1f}: {worst[1]}; {len(PIECES) * len(REPEATED)} texts")
    assert worst[0] < 30
