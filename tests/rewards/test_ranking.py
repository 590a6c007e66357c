import math
import random
import warnings

import numpy as np
import pytest
from helpers.plain_ranking import plain_ranking_reward
from hypothesis import given
from hypothesis import strategies as st

from vqathinker_verl import ranking_reward
from vqathinker_verl.rewards import ranking
from vqathinker_verl.rewards.notices import warn_once

NAN = math.nan
EPS = 1e-6
HIGHEST = math.sqrt(1 + EPS) + math.sqrt(EPS)


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


@st.composite
def batches(draw):
    """Scores (some missing), MOS, group ids and data sources of up to 5 videos with 1 to 4 responses."""
    rows = []
    for video in range(draw(st.integers(1, 5))):
        mos = draw(st.sampled_from([1.0, 2.25, 3.0, 4.5]))
        source = draw(st.sampled_from(["LSVQ", "KoNViD-1k"]))
        for _ in range(draw(st.integers(1, 4))):
            score = draw(st.one_of(st.just(NAN), st.integers(100, 500).map(lambda cents: cents / 100)))
            rows.append((score, mos, f"video {video}", source))
    random.Random(draw(st.integers(0, 9))).shuffle(rows)
    return tuple(list(column) for column in zip(*rows, strict=True))


# Two videos with one response each: v_i = v_z = 0, so p = Phi(gap / sqrt(eps)) = Phi(1000 gap).
@pytest.mark.parametrize(
    ("gap", "mos", "expected"),
    [
        (1.0, (4.0, 2.0), HIGHEST),  # p = 1, t = 1
        (-1.0, (4.0, 2.0), 2 * math.sqrt(EPS)),  # p = 0, t = 1
        (0.0, (4.0, 2.0), math.sqrt(0.5 + EPS) + math.sqrt(EPS)),  # p = 1/2, t = 1
        (0.0, (3.0, 3.0), 2 * math.sqrt(0.25 + EPS)),  # p = t = 1/2
        (1.0, (3.0, 3.0), math.sqrt(0.5 + EPS) + math.sqrt(EPS)),  # p = 1, t = 1/2
        # Phi(1) = 0.8413447461
        (0.001, (4.0, 2.0), math.sqrt(0.8413447461 + EPS) + math.sqrt(EPS)),
    ],
)
def test_two_videos_by_hand(gap, mos, expected):
    reward = ranking_reward([3.0 + gap, 3.0], mos, ["a", "b"])
    assert reward == pytest.approx([expected, expected], abs=1e-8)


def test_variances_by_hand():
    # Group a: 2, 4 (mean 3, variance 2); group b: 1, 3, 2 (mean 2, variance 1). For the first response of a:
    # p = Phi((2 - 2) / sqrt(3)) = 1/2, for the second Phi(2 / sqrt(3)) = Phi(1.1547) = 0.8758935.
    reward = ranking_reward([2, 4, 1, 3, 2], [4, 4, 1, 1, 1], ["a", "a", "b", "b", "b"])
    assert reward[0] == pytest.approx(math.sqrt(0.5) + 0.001, abs=1e-5)
    assert reward[1] == pytest.approx(math.sqrt(0.8758935) + 0.001, abs=1e-5)
    # b's first: p = Phi((1 - 3) / sqrt(3)) = 0.1241065, t = 0, so sqrt(1 - p).
    assert reward[2] == pytest.approx(math.sqrt(0.8758935) + 0.001, abs=1e-5)


@given(batches())
def test_agrees_with_the_double_loop(batch):
    scores, mos, groups, sources = batch
    assert ranking_reward(scores, mos, groups) == pytest.approx(plain_ranking_reward(scores, mos, groups), abs=1e-9)
    assert ranking_reward(scores, mos, groups, data_sources=sources) == pytest.approx(
        plain_ranking_reward(scores, mos, groups, sources), abs=1e-9
    )


@given(batches())
def test_bounds(batch):
    scores, mos, groups, _ = batch
    reward = ranking_reward(scores, mos, groups)
    assert np.all((reward == 0) | ((reward >= 2 * math.sqrt(EPS) - 1e-12) & (reward <= HIGHEST + 1e-12)))
    assert np.all(reward[np.isnan(scores)] == 0)


@given(batches(), st.randoms())
def test_order_of_the_responses_does_not_matter(batch, rng):
    scores, mos, groups, sources = batch
    order = list(range(len(scores)))
    rng.shuffle(order)
    reward = ranking_reward(scores, mos, groups, data_sources=sources)
    shuffled = [[column[i] for i in order] for column in batch]
    assert ranking_reward(*shuffled[:3], data_sources=shuffled[3]) == pytest.approx(reward[order], abs=1e-9)


@given(batches())
def test_names_of_the_groups_do_not_matter(batch):
    scores, mos, groups, _ = batch
    renamed = [("clip", groups.index(group)) for group in groups]  # any hashable value
    assert ranking_reward(scores, mos, renamed).tolist() == ranking_reward(scores, mos, groups).tolist()
    assert ranking_reward(scores, mos, np.array(groups)).tolist() == ranking_reward(scores, mos, groups).tolist()


@given(batches(), st.floats(-100, 100))
def test_only_score_gaps_and_the_order_of_the_mos_matter(batch, shift):
    scores, mos, groups, _ = batch
    shifted = [score + shift for score in scores]
    bent = [math.exp(target) for target in mos]  # another scale, the same order
    assert ranking_reward(shifted, bent, groups) == pytest.approx(ranking_reward(scores, mos, groups), abs=1e-6)


@given(st.floats(1, 5), st.floats(1, 5), st.floats(1, 5), st.floats(1, 5))
def test_fidelity_is_the_same_seen_from_either_video(first, second, mos_first, mos_second):
    reward = ranking_reward([first, second], [mos_first, mos_second], ["a", "b"])
    # 1 - p loses the digits of a tiny p, and sqrt(eps + error) magnifies that by 1 / (2 sqrt(eps)).
    assert reward[0] == pytest.approx(reward[1], abs=1e-9)


def test_all_ties():
    assert ranking_reward([3.0] * 4, [2.5] * 4, list("aabb")) == pytest.approx([2 * math.sqrt(0.25 + EPS)] * 4)


def test_all_unparsed():
    assert ranking_reward([NAN] * 4, [1.0, 1.0, 4.0, 4.0], list("aabb")).tolist() == [0.0] * 4


def test_a_video_without_scores_is_compared_with_nothing():
    without = ranking_reward([2.0, 3.0], [1.0, 4.0], ["a", "b"])
    with_it = ranking_reward([2.0, 3.0, NAN], [1.0, 4.0, 5.0], ["a", "b", "c"])
    assert with_it.tolist() == [*without.tolist(), 0.0]


def test_an_unparsed_response_changes_nothing_for_the_others():
    plain = ranking_reward([2.0, 2.5, 3.0], [1.0, 1.0, 4.0], ["a", "a", "b"])
    reward = ranking_reward([2.0, NAN, 2.5, 3.0], [1.0, 1.0, 1.0, 4.0], ["a", "a", "a", "b"])
    assert reward.tolist() == [plain[0], 0.0, plain[1], plain[2]]


def test_datasets_are_not_compared_with_each_other():
    scores, mos, groups = [2.0, 3.0, 1.0], [1.0, 4.0, 5.0], ["a", "b", "c"]
    reward = ranking_reward(scores, mos, groups, data_sources=["LSVQ", "LSVQ", "KoNViD-1k"])
    assert reward[:2].tolist() == ranking_reward(scores[:2], mos[:2], groups[:2]).tolist()
    assert reward[2] == 0.0


def test_blocks_give_what_one_piece_gives(monkeypatch):
    rng = np.random.default_rng(0)
    scores, groups = rng.uniform(1, 5, 60), np.repeat(np.arange(20), 3)
    mos = rng.uniform(1, 5, 20)[groups]
    whole = ranking_reward(scores, mos, groups)
    monkeypatch.setattr(ranking, "_PAIRS_PER_BLOCK", 7)
    assert ranking_reward(scores, mos, groups) == pytest.approx(whole, abs=1e-14)


def test_one_video_has_no_pairs_and_says_so_once():
    warn_once.cache_clear()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert ranking_reward([2.0, 3.0], [2.5, 2.5], ["a", "a"]).tolist() == [0.0, 0.0]
        assert ranking_reward([2.0, 4.0], [2.5, 2.5], ["b", "b"]).tolist() == [0.0, 0.0]
    assert len(caught) == 1
    assert "at least two videos" in str(caught[0].message)


def test_memory_does_not_grow_with_the_square_of_the_responses():
    import tracemalloc

    def peak(num_videos):
        groups = np.repeat(np.arange(num_videos), 8)
        scores = np.random.default_rng(0).uniform(1, 5, len(groups))
        ranking_reward(scores, scores[groups * 8], groups)
        tracemalloc.start()
        ranking_reward(scores, scores[groups * 8], groups)
        value = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return value

    # From 128 to 512 videos the pairs grow by 16, from 1 to 16 MiB an array; the blocks stay.
    assert peak(512) < 2 * peak(128)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0, 2.0], [1.0, 2.0], ["a"]), "group_ids: expected 2 values, one per response, got 1"),
        (([1.0, 2.0], [1.0, 2.0], ["a", None]), r"group_ids\[1\]: missing \(None\)"),
        (([1.0, 2.0], [1.0, 2.0], [NAN, 1.0]), r"group_ids\[0\]: missing \(nan\)"),
        (([1.0, 2.0], [1.0, 2.0], ["a", "a"]), "mos: the responses of group 'a' disagree"),
        (([1.0, math.inf], [1.0, 2.0], ["a", "b"]), r"pred_mos\[1\]: expected a finite number or NaN"),
        (([1.0, 1.0], [1.0, NAN], ["a", "b"]), r"mos\[1\]: expected a finite number"),
    ],
)
def test_faulty_input_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        ranking_reward(*arguments)


def test_a_group_of_two_datasets_is_refused():
    with pytest.raises(ValueError, match="data_sources: the responses of group 'a' disagree"):
        ranking_reward([1.0, 2.0], [1.0, 1.0], ["a", "a"], data_sources=["LSVQ", "KoNViD-1k"])


def test_eps_must_be_above_0():
    with pytest.raises(ValueError, match="eps: expected a number above 0, got 0"):
        ranking_reward([1.0], [1.0], ["a"], eps=0.0)
