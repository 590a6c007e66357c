import math

import numpy as np
import pytest
from helpers.plain_temporal import plain_temporal_bonus
from hypothesis import given
from hypothesis import strategies as st

from vqathinker_verl import RewardConfig, score_batch, temporal_bonus

NAN = math.nan


def answer(number):
    return f"<think>x</think><answer>{number}</answer>"


# Two responses to each of two videos, two perturbed ones each.
@pytest.mark.parametrize(
    ("reward", "perturbed", "scope", "expected"),
    [
        # a: mean 0.7 against 0.5; b: 0.3 against 0.6. Only a's response above 0.5 earns.
        ([1.0, 0.4, 0.6, 0.0], [0.5, 0.5, 0.6, 0.6], "video", [0.3, 0, 0, 0]),
        # Over the batch: 0.5 against 0.55, so nobody earns.
        ([1.0, 0.4, 0.6, 0.0], [0.5, 0.5, 0.6, 0.6], "batch", [0, 0, 0, 0]),
        # Over the batch: 0.5 against 0.45, so all above 0.5 earn, also where their own video did worse.
        ([1.0, 0.4, 0.6, 0.0], [0.2, 0.4, 0.6, 0.6], "batch", [0.3, 0, 0.3, 0]),
        # Equal means earn; a reward at the threshold does not.
        ([0.5, 0.7, 0.9, 0.3], [0.6, 0.6, 0.6, 0.6], "video", [0, 0.3, 0.3, 0]),
        # A response without a verdict has no part in the mean: 0.6 against 0.5.
        ([0.6, NAN, 0.6, 0.6], [0.5, 0.5, NAN, 0.7], "video", [0.3, 0, 0, 0]),
        # All perturbed responses of b without a verdict: no comparison.
        ([0.6, 0.6, 0.6, 0.6], [0.5, 0.5, NAN, NAN], "video", [0.3, 0.3, 0, 0]),
        ([0.6, 0.6, 0.6, 0.6], [0.5, 0.5, NAN, NAN], "batch", [0.3, 0.3, 0, 0]),
    ],
)
def test_by_hand(reward, perturbed, scope, expected):
    bonus = temporal_bonus(reward, perturbed, list("aabb"), list("aabb"), threshold=0.5, scope=scope)
    assert bonus.tolist() == expected


# Two responses to each of two videos, two perturbed ones each: a has a mean of 0.7, b of 0.6.
@pytest.mark.parametrize(
    ("perturbed", "margin", "scope", "expected"),
    [
        # Draws: they earn without a margin, and nothing with any margin, were it smaller than the rounding of a mean.
        ([0.7, 0.7, 0.6, 0.6], 0.0, "video", [0.3, 0, 0.3, 0.3]),
        ([0.7, 0.7, 0.6, 0.6], 1e-12, "video", [0, 0, 0, 0]),
        ([0.7, 0.7, 0.6, 0.6], 0.05, "video", [0, 0, 0, 0]),
        ([0.7, 0.7, 0.6, 0.6], 1e-12, "batch", [0, 0, 0, 0]),
        # a exceeds its copy by 0.2, b by 0.1: exactly the margin is enough (0.6 - 0.5 is 0.09999999999999998).
        ([0.5, 0.5, 0.5, 0.5], 0.1, "video", [0.3, 0, 0.3, 0.3]),
        ([0.5, 0.5, 0.5, 0.5], 0.15, "video", [0.3, 0, 0, 0]),
        ([0.5, 0.5, 0.5, 0.5], 0.25, "video", [0, 0, 0, 0]),
        # Over the batch 0.65 against 0.5: one gap of 0.15 for all.
        ([0.5, 0.5, 0.5, 0.5], 0.15, "batch", [0.3, 0, 0.3, 0.3]),
        ([0.5, 0.5, 0.5, 0.5], 0.16, "batch", [0, 0, 0, 0]),
        # A response without a verdict has no part in the mean; a video without any makes no comparison.
        ([0.6, NAN, NAN, NAN], 0.1, "video", [0.3, 0, 0, 0]),
        ([0.6, NAN, NAN, NAN], 0.1, "batch", [0.3, 0, 0, 0]),
        ([0.6, NAN, NAN, NAN], 0.11, "batch", [0, 0, 0, 0]),
    ],
)
def test_the_margin_by_hand(perturbed, margin, scope, expected):
    bonus = temporal_bonus(
        [0.9, 0.5, 0.6, 0.6], perturbed, list("aabb"), list("aabb"), threshold=0.5, scope=scope, margin=margin
    )
    assert bonus.tolist() == expected


def test_the_margin_in_score_batch():
    """SPEC's Gaussian by hand: the original is right, the copy errs by 0.25, which earns exp(-0.125) = 0.8825."""
    arguments = {
        "responses": [answer("4.00"), answer("2.00")],
        "mos": [4.0, 2.0],
        "group_ids": ["a", "b"],
        "perturbed_responses": [answer("3.75"), answer("2.00")],
        "perturbed_group_ids": ["a", "b"],
    }
    # a: the ranking is right on both sides, a draw; the regression gap is 0.1175. b: draws twice.
    for margin, bonuses, win_rate in ((0.0, [0.6, 0.6], 1.0), (0.11, [0.3, 0.0], 0.25), (0.12, [0.0, 0.0], 0.0)):
        rewards = score_batch(**arguments, config=RewardConfig(temporal_margin=margin))
        np.testing.assert_allclose(rewards.temporal, bonuses)
        np.testing.assert_allclose(rewards.total, rewards.regression + rewards.ranking + 1 + bonuses)
        assert rewards.metrics()["temporal_win_rate"] == win_rate
        assert rewards.metrics()["temporal_excluded"] == 0.0
    # Over the batch the regression gap is half of a's, 0.0588, and b is paid with it.
    for margin, bonuses in ((0.05, [0.3, 0.3]), (0.06, [0.0, 0.0])):
        config = RewardConfig(temporal_margin=margin, temporal_scope="batch")
        np.testing.assert_allclose(score_batch(**arguments, config=config).temporal, bonuses)


def test_fewer_perturbed_responses_in_another_order():
    bonus = temporal_bonus([0.8, 0.9, 0.8], [0.7, 0.9], ["a", "b", "a"], ["a", "b"], threshold=0.5, bonus=0.1)
    assert bonus.tolist() == [0.1, 0.1, 0.1]


def test_a_video_without_perturbed_responses_earns_nothing():
    for scope in ("video", "batch"):
        bonus = temporal_bonus([0.8, 0.9], [0.7], ["a", "b"], ["a"], threshold=0.5, scope=scope)
        assert bonus.tolist() == [0.3, 0.0]


def test_nothing_perturbed():
    for scope in ("video", "batch"):
        assert temporal_bonus([0.8, 0.9], [], ["a", "b"], [], threshold=0.5, scope=scope).tolist() == [0.0, 0.0]


REWARDS = st.lists(st.tuples(st.floats(0, 1), st.sampled_from("abc")), min_size=1, max_size=8)


SCOPES = st.sampled_from(["video", "batch"])
MARGINS = st.one_of(st.just(0.0), st.floats(1e-12, 1e-6), st.floats(1e-6, 1.5))


def bonus_of(original, perturbed, **settings):
    """Leaves out the perturbed responses to videos of which there are no originals."""
    known = {group for _, group in original}
    perturbed = [(reward, group) for reward, group in perturbed if group in known]
    return temporal_bonus(
        [reward for reward, _ in original],
        [reward for reward, _ in perturbed],
        [group for _, group in original],
        [group for _, group in perturbed],
        **settings,
    )


@given(REWARDS, REWARDS, st.floats(0, 1), st.floats(0, 2), SCOPES, MARGINS)
def test_it_only_ever_adds(original, perturbed, threshold, bonus, scope, margin):
    earned = bonus_of(original, perturbed, threshold=threshold, bonus=bonus, scope=scope, margin=margin)
    assert set(earned.tolist()) <= {0.0, bonus}
    assert np.all(earned[np.array([reward for reward, _ in original]) <= threshold] == 0)


@given(REWARDS, REWARDS, st.floats(0, 1), SCOPES, MARGINS)
def test_it_is_the_plain_loop(original, perturbed, threshold, scope, margin):
    earned = bonus_of(original, perturbed, threshold=threshold, scope=scope, margin=margin)
    assert earned.tolist() == plain_temporal_bonus(original, perturbed, threshold=threshold, scope=scope, margin=margin)


@given(REWARDS, REWARDS, SCOPES, MARGINS, MARGINS)
def test_a_larger_margin_never_earns_more(original, perturbed, scope, one, other):
    small, large = sorted((one, other))
    lenient = bonus_of(original, perturbed, threshold=0.5, scope=scope, margin=small)
    strict = bonus_of(original, perturbed, threshold=0.5, scope=scope, margin=large)
    assert np.all(strict <= lenient)


@given(REWARDS, SCOPES, MARGINS.filter(bool))
def test_a_copy_that_does_as_well_earns_nothing_with_a_margin(original, scope, margin):
    assert not bonus_of(original, original[::-1], threshold=0.0, scope=scope, margin=margin).any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"perturbed_group_ids": ["c"]}, "perturbed_group_ids: 'c' is not among group_ids"),
        ({"perturbed_group_ids": [None]}, r"perturbed_group_ids\[0\]: missing"),
        ({"perturbed_group_ids": []}, "perturbed_group_ids: expected 1 values"),
        ({"bonus": -0.1}, "bonus: expected a number of at least 0, got -0.1"),
        ({"margin": -0.1}, "margin: expected a finite number of at least 0, got -0.1"),
        ({"margin": math.inf}, "margin: expected a finite number of at least 0, got inf"),
        ({"margin": NAN}, "margin: expected a finite number of at least 0, got nan"),
        ({"scope": "group"}, "scope: expected one of 'video', 'batch', got 'group'"),
    ],
)
def test_faulty_input_is_named(changes, message):
    arguments = {
        "reward": [0.8],
        "reward_perturbed": [0.7],
        "group_ids": ["a"],
        "perturbed_group_ids": ["a"],
        "threshold": 0.5,
    }
    with pytest.raises(ValueError, match=message):
        temporal_bonus(**(arguments | changes))


@pytest.mark.parametrize("scope", ["video", "batch"])
@given(reward=st.floats(0.5, 1.0), count=st.integers(1, 16), perturbed_count=st.integers(1, 16))
def test_equal_rewards_are_a_draw_whatever_their_number(reward, count, perturbed_count, scope):
    """A draw earns without a margin only; the means of 8 and of 3 equal numbers may differ in their last digit."""
    groups, perturbed_groups = ["a"] * count, ["a"] * perturbed_count
    for margin, expected in ((0.0, 0.3), (1e-15, 0.0), (0.1, 0.0)):
        earned = temporal_bonus(
            [reward] * count,
            [reward] * perturbed_count,
            groups,
            perturbed_groups,
            threshold=0.4,
            scope=scope,
            margin=margin,
        )
        assert earned.tolist() == [expected] * count


@pytest.mark.parametrize("scope", ["video", "batch"])
@given(score=st.integers(100, 500), mos=st.lists(st.floats(1.0, 5.0), min_size=2, max_size=12, unique=True))
def test_one_answer_to_everything_draws_with_itself(score, mos, scope):
    """It looks at neither side, so it always draws: it wins all comparisons without a margin, and none with one."""
    response = answer(f"{score / 100:.2f}")
    videos = range(len(mos))
    for margin, win_rate in ((0.0, 1.0), (0.01, 0.0)):
        rewards = score_batch(
            [response] * 8 * len(mos),
            np.repeat(mos, 8),
            np.repeat(videos, 8).tolist(),
            perturbed_responses=[response] * 3 * len(mos),
            perturbed_group_ids=np.repeat(videos, 3).tolist(),
            config=RewardConfig(temporal_scope=scope, temporal_margin=margin),
        )
        assert rewards.metrics()["temporal_win_rate"] == win_rate
        assert margin == 0.0 or not rewards.temporal.any()
