import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqathinker_verl import regression_reward

NAN = math.nan
SCORES = st.floats(1, 5)


@pytest.mark.parametrize(
    ("pred_mos", "mos", "sigma", "expected"),
    [
        (3.0, 3.0, 0.5, 1.0),
        (3.5, 3.0, 0.5, 0.6065306597),  # exp(-1/2): an error of one sigma
        (2.5, 3.0, 0.5, 0.6065306597),
        (4.0, 3.0, 0.5, 0.1353352832),  # exp(-2)
        (5.0, 1.0, 0.5, 1.2664165549e-14),  # exp(-32)
        (4.0, 3.0, 1.0, 0.6065306597),
        (NAN, 3.0, 0.5, 0.0),
        (1e200, 3.0, 0.5, 0.0),
    ],
)
def test_values(pred_mos, mos, sigma, expected):
    assert regression_reward([pred_mos], [mos], sigma=sigma) == pytest.approx([expected], rel=1e-9)


def test_too_few_decimals_cost_a_fifth():
    reward = regression_reward([3.0, 3.0, 3.0, 3.0, NAN], [3.0] * 5, decimals=[0, 1, 2, 3, 0])
    assert reward.tolist() == [0.8, 0.8, 1.0, 1.0, 0.0]


@given(SCORES, SCORES, SCORES)
def test_a_smaller_error_never_earns_less(first, second, mos):
    reward = regression_reward([first, second], [mos, mos])
    if abs(first - mos) < abs(second - mos):
        assert reward[0] >= reward[1]
    assert np.all((reward >= 0) & (reward <= 1))


def test_no_responses():
    assert regression_reward([], []).shape == (0,)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0, 2.0], [1.0]), "mos: expected 2 values, one per response, got 1"),
        (([1.0], [NAN]), r"mos\[0\]: expected a finite number, got nan"),
        (([2.0, math.inf], [1.0, 1.0]), r"pred_mos\[1\]: expected a finite number or NaN, got inf"),
        (([[1.0]], [[1.0]]), r"pred_mos: expected one dimension, got shape \(1, 1\)"),
        ((["good"], [1.0]), "pred_mos: expected numbers"),
    ],
)
def test_faulty_input_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        regression_reward(*arguments)


def test_sigma_must_be_above_0():
    with pytest.raises(ValueError, match="sigma: expected a number above 0, got 0"):
        regression_reward([1.0], [1.0], sigma=0)
