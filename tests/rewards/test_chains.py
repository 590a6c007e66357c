"""Rewards of videos without a MOS: ranked inside their chain, and without part in what labelled videos get."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vqathinker_verl import score_batch
from vqathinker_verl.metrics import chain_accuracy
from vqathinker_verl.rewards.ranking import ranking_reward


def text(score):
    return f"<think>x</think><answer>{score:.2f}</answer>"


SCORE = st.integers(100, 500).map(lambda value: value / 100)
LABELLED = st.lists(st.tuples(SCORE, SCORE, SCORE), min_size=1, max_size=4)  # MOS, two scores
CHAINED = st.lists(st.tuples(st.sampled_from("xy"), st.integers(0, 4), SCORE, SCORE), min_size=1, max_size=6)


def batch_of(labelled, chained, **options):
    responses, mos, ids, chains, strengths = [], [], [], [], []
    for number, (label, *scores) in enumerate(labelled):
        for score in scores:
            row = (text(score), label, f"l{number}", None, math.nan)
            for values, value in zip((responses, mos, ids, chains, strengths), row, strict=True):
                values.append(value)
    for number, (chain, strength, *scores) in enumerate(chained):
        for score in scores:
            row = (text(score), math.nan, f"c{number}", chain, strength / 4)
            for values, value in zip((responses, mos, ids, chains, strengths), row, strict=True):
                values.append(value)
    return score_batch(responses, mos, ids, chains=chains, strengths=strengths, **options)


@settings(max_examples=40, deadline=None)
@given(LABELLED, CHAINED)
def test_chains_change_nothing_for_labelled_videos(labelled, chained):
    alone, together = batch_of(labelled, []), batch_of(labelled, chained)
    count = 2 * len(labelled)
    for name in ("total", "regression", "ranking", "temporal", "format"):
        np.testing.assert_allclose(getattr(together, name)[:count], getattr(alone, name), atol=1e-12)
    for name in ("regression", "ranking", "temporal", "ranking_accuracy", "srcc", "temporal_excluded"):
        np.testing.assert_allclose(together.metrics()[name], alone.metrics()[name], atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(LABELLED, CHAINED)
def test_a_chain_is_ranked_against_itself_and_nothing_else(labelled, chained):
    together = batch_of(labelled, chained)
    begin = 2 * len(labelled)
    assert (together.regression[begin:] == 0).all()
    assert (together.temporal[begin:] == 0).all()
    scores, order, ids = [], [], []
    sources = []
    for number, (chain, strength, *pair) in enumerate(chained):
        scores, order = scores + pair, order + [-strength] * 2
        ids, sources = ids + [number] * 2, sources + [chain] * 2
    expected = ranking_reward(scores, order, ids, data_sources=sources)
    np.testing.assert_allclose(together.ranking[begin:], expected, atol=1e-12)
    np.testing.assert_allclose(together.total[begin:], expected + 1, atol=1e-12)  # and the format reward


def test_the_right_order_earns_more_than_the_wrong_one_in_both_modes():
    for options in ({}, {"data_sources": ["chains"] * 6}):
        right = batch_of([], [("x", 0, 4.5, 4.4), ("x", 2, 3.0, 3.1), ("x", 4, 1.5, 1.4)], **options)
        wrong = batch_of([], [("x", 0, 1.5, 1.4), ("x", 2, 3.0, 3.1), ("x", 4, 4.5, 4.4)], **options)
        assert right.metrics()["chain_accuracy"] == 1.0
        assert wrong.metrics()["chain_accuracy"] == 0.0
        assert (right.ranking > 0.99).all()
        assert (wrong.ranking < 0.1).all()
        assert math.isnan(right.metrics()["regression"])


def test_perturbed_copies_of_a_chain_earn_no_bonus():
    batch = score_batch(
        [text(4), text(2)], [math.nan] * 2, ["a", "b"], chains=["x", "x"], strengths=[0, 1],
        perturbed_responses=[text(3)], perturbed_group_ids=["a"],
    )  # fmt: skip
    assert batch.temporal.tolist() == [0, 0]
    assert batch.metrics()["temporal_excluded"] == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"chains": ["x"]}, "chains: expected 2 values"),
        ({"strengths": None}, "strengths: missing"),
        ({"strengths": [0.0, math.nan]}, r"strengths\[1\]: expected a number"),
        ({"chains": ["x", None]}, r"mos\[1\]: expected a finite number"),
    ],
)
def test_what_is_missing_is_named(changes, message):
    arguments = {"chains": ["x", "x"], "strengths": [0.0, 1.0]} | changes
    with pytest.raises(ValueError, match=message):
        score_batch([text(4), text(2)], [math.nan] * 2, ["a", "b"], **arguments)


def test_one_video_has_one_strength():
    with pytest.raises(ValueError, match="strengths: the responses of group 'a' disagree"):
        score_batch([text(4), text(2)], [math.nan] * 2, ["a", "a"], chains=["x", "x"], strengths=[0.0, 1.0])


def test_chain_accuracy_counts_pairs_of_one_chain_with_a_score():
    assert chain_accuracy([4, 3, 3], ["a", "a", "a"], [0, 0.5, 1]) == pytest.approx(2.5 / 3)
    assert chain_accuracy([4, 3, 1], ["a", "a", "b"], [0, 0.5, 1]) == 1.0
    assert chain_accuracy([4, np.nan, 5], ["a", "a", "a"], [0, 0.5, 1]) == 0.0
    assert math.isnan(chain_accuracy([4, 3], ["a", "b"], [0, 1]))
