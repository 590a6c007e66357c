import math

import pytest
from helpers.recorded_run import step_data

from vqathinker_verl.runner.columns import COLUMNS
from vqathinker_verl.runner.troubles import troubles_of


def found(data, earlier=(), limit=32):
    return {trouble.metric for trouble in troubles_of(data, earlier, limit)}


def test_a_good_step_has_none():
    assert found(step_data(3), [step_data(1), step_data(2)]) == set()


@pytest.mark.parametrize(
    ("metric", "good", "bad"),
    [
        ("reward/group_std", 0.05, 0.049),
        ("actor/kl_loss", 0.5, 0.501),
        ("reward/format", 0.9, 0.899),
        ("rollout/total_failed_responses", 0.0, 1.0),
        ("training/rollout_probs_diff_max", 0.05, 0.051),
        ("response_length/max", 31, 32),
    ],
)
def test_each_threshold(metric, good, bad):
    assert found(step_data(3, **{metric: good})) == set()
    assert found(step_data(3, **{metric: bad})) == {metric}


def test_answers_without_a_score_are_trouble_only_while_their_share_rises():
    metric = "reward/parse_failure_rate"

    def step(share):
        return step_data(1, **{metric: share})

    assert found(step(0.06), [step(0.05), step(0.04), step(0.05)]) == {metric}
    assert found(step(0.05), [step(0.01)]) == set()
    assert found(step(0.30), [step(0.50), step(0.40), step(0.35)]) == set()
    assert found(step(0.06)) == set()  # the first step: nothing is known of its course
    assert found(step(0.06), [step(0.9), step(0.05), step(0.05), step(0.05)]) == {metric}  # the last three count


def test_what_was_not_logged_or_is_undefined_is_no_trouble():
    assert found({}, [{}]) == set()
    assert found({"actor/kl_loss": None, "reward/format": math.nan}) == set()
    assert found(step_data(3, **{"response_length/max": 10_000}), limit=None) == set()


def test_every_column_that_is_marked_is_marked_by_a_known_trouble():
    everything = {
        "reward/parse_failure_rate": 0.5,
        "reward/group_std": 0.0,
        "actor/kl_loss": 9,
        "reward/format": 0.1,
        "rollout/total_failed_responses": 4,
        "training/rollout_probs_diff_max": 1,
        "response_length/max": 32,
    }
    marks = found(step_data(3, **everything), [step_data(2)])
    assert marks == everything.keys()
    marked = {column.title for column in COLUMNS if column.marked_by(marks)}
    assert marked == {"format", "spread", "KL", "no-score", "tokens"}
