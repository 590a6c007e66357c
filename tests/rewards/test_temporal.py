import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqathinker_verl import score_batch, temporal_bonus

NAN = math.nan


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


@given(REWARDS, REWARDS, st.floats(0, 1), st.floats(0, 2), st.sampled_from(["video", "batch"]))
def test_it_only_ever_adds(original, perturbed, threshold, bonus, scope):
    known = {group for _, group in original}
    perturbed = [(reward, group) for reward, group in perturbed if group in known]
    earned = temporal_bonus(
        [reward for reward, _ in original],
        [reward for reward, _ in perturbed],
        [group for _, group in original],
        [group for _, group in perturbed],
        threshold=threshold,
        bonus=bonus,
        scope=scope,
    )
    assert set(earned.tolist()) <= {0.0, bonus}
    assert np.all(earned[np.array([reward for reward, _ in original]) <= threshold] == 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"perturbed_group_ids": ["c"]}, "perturbed_group_ids: 'c' is not among group_ids"),
        ({"perturbed_group_ids": [None]}, r"perturbed_group_ids\[0\]: missing"),
        ({"perturbed_group_ids": []}, "perturbed_group_ids: expected 1 values"),
        ({"bonus": -0.1}, "bonus: expected a number of at least 0, got -0.1"),
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
    """A draw earns; the means of 8 and of 3 equal numbers may differ in their last digit."""
    earned = temporal_bonus(
        [reward] * count, [reward] * perturbed_count, ["a"] * count, ["a"] * perturbed_count, threshold=0.4, scope=scope
    )
    assert earned.tolist() == [0.3] * count


@given(score=st.integers(100, 500), mos=st.lists(st.floats(1.0, 5.0), min_size=2, max_size=12, unique=True))
def test_one_answer_to_everything_draws_with_itself(score, mos):
    """Neither side knows anything of the video, so neither can lose."""
    answer = f"<think>x</think><answer>{score / 100:.2f}</answer>"
    videos = range(len(mos))
    rewards = score_batch(
        [answer] * 8 * len(mos),
        np.repeat(mos, 8),
        np.repeat(videos, 8).tolist(),
        perturbed_responses=[answer] * 3 * len(mos),
        perturbed_group_ids=np.repeat(videos, 3).tolist(),
    )
    assert rewards.metrics()["temporal_win_rate"] == 1.0
