"""The accuracy of pairs against a plain double loop, and by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqathinker_verl import evaluate_predictions
from vqathinker_verl.metrics import pair_accuracy
from vqathinker_verl.metrics.pairs import count_pairs


def plain_count(scores, order, groups, min_gap):
    """Integers, so that no difference is rounded."""
    right, pairs = 0.0, 0
    for i in range(len(scores)):
        for j in range(len(scores)):
            if groups[i] == groups[j] and order[i] > order[j] and order[i] - order[j] >= min_gap:
                if scores[i] is None or scores[j] is None:
                    continue
                pairs += 1
                right += 1.0 if scores[i] > scores[j] else 0.5 if scores[i] == scores[j] else 0.0
    return right, pairs


VIDEO = st.tuples(st.none() | st.integers(1, 5), st.integers(1, 6), st.integers(0, 2))


@given(st.lists(VIDEO, max_size=25), st.integers(0, 3))
def test_it_is_the_plain_double_loop(videos, min_gap):
    scores, order, groups = zip(*videos, strict=True) if videos else ((), (), ())
    arrays = (
        np.array([math.nan if score is None else score for score in scores], dtype=np.float64),
        np.array(order, dtype=np.float64),
        np.array(groups, dtype=np.int64),
    )
    right, pairs = plain_count(scores, order, groups, min_gap)
    assert count_pairs(*arrays, min_gap) == (right, pairs)
    found = pair_accuracy(*arrays, min_gap)
    assert math.isnan(found) if not pairs else found == right / pairs


def test_a_difference_that_is_equal_as_written_counts():
    # 3.3 - 2.8 is 0.49999999999999956.
    mos = np.array([2.8, 3.3, 3.29])
    assert count_pairs(np.array([1.0, 2.0, 0.0]), mos, np.zeros(3, dtype=np.int64), 0.5) == (1.0, 1)


def test_evaluate_predictions_by_hand():
    pred, mos = [1.0, 2.0, 2.0, 5.0, 4.0], [1.0, 2.0, 2.4, 4.0, 5.0]
    # 10 pairs: the equal predictions (2.0, 2.4) count half, and the last two are in the wrong order.
    assert evaluate_predictions(pred, mos, num_resamples=0)["pair_accuracy"] == pytest.approx(8.5 / 10)
    far = evaluate_predictions(pred, mos, num_resamples=50, min_gap=1.0)
    assert (far["num_pairs"], far["pair_accuracy"]) == (9, pytest.approx(8 / 9))  # without the equal predictions
    assert far["pair_accuracy_low"] <= far["pair_accuracy"] <= far["pair_accuracy_high"]
    none = evaluate_predictions(pred, mos, num_resamples=5, min_gap=4.5)
    assert none["num_pairs"] == 0
    assert math.isnan(none["pair_accuracy"])
    with pytest.raises(ValueError, match="min_gap: expected 0 or more, got -1"):
        evaluate_predictions(pred, mos, min_gap=-1)
