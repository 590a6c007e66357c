import dataclasses
import math
import pickle
import random
import time
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqathinker_verl import RewardConfig, format_reward, ranking_reward, regression_reward, score_batch

NAN = math.nan
ARRAYS = ("total", "regression", "ranking", "temporal", "format", "pred_mos")


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


def answer(number):
    return f"<think>x</think><answer>{number}</answer>"


def test_a_batch_by_hand():
    # Single responses, so no variance: every ranking is right with p = 1 or 0, fidelity sqrt(1 + eps) + sqrt(eps).
    batch = score_batch(
        [answer("4.00"), answer("2.5"), "2.00"],
        [4.0, 2.0, 1.0],
        ["a", "b", "c"],
        perturbed_responses=[answer("3.00"), answer("2.00")],
        perturbed_group_ids=["a", "b"],
    )
    fidelity = math.sqrt(1 + 1e-6) + 1e-3
    np.testing.assert_allclose(batch.pred_mos, [4.0, 2.5, NAN])
    np.testing.assert_allclose(batch.regression, [1.0, 0.8 * math.exp(-0.5), 0.0])
    np.testing.assert_allclose(batch.ranking, [fidelity, fidelity, 0.0], atol=1e-9)
    np.testing.assert_allclose(batch.format, [1.0, 1.0, 0.0])
    # a: ranking a draw (earns), regression 1 against exp(-2) (earns). b: ranking a draw (earns), regression lost.
    np.testing.assert_allclose(batch.temporal, [0.6, 0.3, 0.0])
    np.testing.assert_allclose(batch.total, [2.6 + fidelity, 1.3 + fidelity + 0.8 * math.exp(-0.5), 0.0], atol=1e-9)
    metrics = batch.metrics()
    assert metrics == pytest.approx(
        {
            "overall": batch.total.mean(),
            "regression": batch.regression.mean(),
            "ranking": 2 * fidelity / 3,
            "chain_ranking": NAN,  # no chains
            "temporal": 0.3,
            "format": 2 / 3,
            "parse_failure_rate": 1 / 3,
            "group_std": NAN,  # no group of two
            "chain_accuracy": NAN,
            "ranking_accuracy": 1.0,  # of one pair: c has no score
            "srcc": 1.0,
            "temporal_win_rate": 0.75,
            "temporal_excluded": 1.0,
        },
        nan_ok=True,
    )


def test_weights_scale_rewards_and_their_bonuses():
    config = RewardConfig(regression_weight=2, ranking_weight=3, format_weight=0.5)
    batch = score_batch(
        [answer("4.00"), answer("2.00")],
        [4.0, 2.0],
        ["a", "b"],
        perturbed_responses=[answer("3.00")],
        perturbed_group_ids=["a"],
        config=config,
    )
    # a has both bonuses, b none.
    np.testing.assert_allclose(batch.total, [2 * 1.3 + 3 * 1.301 + 0.5, 2 + 3 * 1.001 + 0.5], atol=1e-5)


def test_group_std_is_the_unbiased_one_within_groups():
    batch = score_batch([answer("3.00"), answer("3"), answer("2.00")], [3.0, 3.0, 2.0], ["a", "a", "b"])
    # The scores of a are equal, so its totals differ by the decimal penalty alone: 1 and 0.8, std 0.2 / sqrt(2).
    assert batch.metrics()["group_std"] == pytest.approx(0.2 / math.sqrt(2))


def test_ranking_accuracy_counts_pairs_of_one_dataset():
    responses = [answer(number) for number in ("3.00", "2.00", "2.00", "4.00")]
    # LSVQ: 3.00 > 2.00 right; 2.00 = 2.00 half; 3.00 > 2.00 right. KoNViD-1k: no pair.
    batch = score_batch(
        responses, [4.0, 3.0, 2.0, 1.0], list("abcd"), data_sources=["LSVQ", "LSVQ", "LSVQ", "KoNViD-1k"]
    )
    assert batch.metrics()["ranking_accuracy"] == pytest.approx(2.5 / 3)


def test_metrics_have_constant_keys_and_are_floats():
    ordinary = score_batch([answer("4.00"), answer("2.00")], [4.0, 2.0], ["a", "b"]).metrics()
    unparsed = score_batch(["", ""], [4.0, 2.0], ["a", "b"]).metrics()
    empty = score_batch([], [], []).metrics()
    assert list(ordinary) == list(unparsed) == list(empty)
    for metrics in (ordinary, unparsed, empty):
        assert all(type(value) is float for value in metrics.values())
    assert unparsed["parse_failure_rate"] == 1.0
    assert unparsed["overall"] == 0.0
    assert math.isnan(unparsed["srcc"])
    assert math.isnan(unparsed["temporal_win_rate"])


@pytest.mark.parametrize("perturbed", [None, []])
def test_nothing_perturbed(perturbed):
    batch = score_batch(
        [answer("4.00"), answer("2.00")],
        [4.0, 2.0],
        ["a", "b"],
        perturbed_responses=perturbed,
        perturbed_group_ids=perturbed,
    )
    assert batch.temporal.tolist() == [0.0, 0.0]
    assert batch.metrics()["temporal_excluded"] == 2.0


def test_perturbed_responses_without_scores_make_no_comparison():
    batch = score_batch(
        [answer("4.00"), answer("2.00")],
        [4.0, 2.0],
        ["a", "b"],
        perturbed_responses=["", answer("3.00"), ""],
        perturbed_group_ids=["a", "b", "b"],
    )
    # b: 1.001 against 0 or more, and the regression won; its unparsed perturbed response is left out of the mean.
    np.testing.assert_allclose(batch.temporal, [0.0, 0.6])
    assert batch.metrics()["temporal_excluded"] == 1.0


def test_one_video_alone_earns_no_ranking_bonus_and_makes_no_ranking_comparison():
    batch = score_batch([answer("4.00")], [4.0], ["a"], perturbed_responses=[answer("3.00")], perturbed_group_ids=["a"])
    assert batch.ranking.tolist() == [0.0]
    assert batch.temporal.tolist() == [0.3]
    assert batch.metrics()["temporal_win_rate"] == 1.0


@st.composite
def batches(draw):
    """Responses, MOS, groups and data sources of a few videos, and perturbed responses with their groups."""
    texts = st.one_of(
        st.integers(100, 500).map(lambda cents: answer(f"{cents / 100:.2f}")),
        st.sampled_from(["", "no score", "<answer>3</answer>", answer("4.5"), answer("9")]),
    )
    rows, perturbed = [], []
    for video in range(draw(st.integers(1, 4))):
        mos, source = draw(st.sampled_from([1.0, 2.25, 3.0, 4.5])), draw(st.sampled_from(["LSVQ", "CGVDS"]))
        rows += [(text, mos, video, source) for text in draw(st.lists(texts, min_size=1, max_size=3))]
        perturbed += [(text, video) for text in draw(st.lists(texts, max_size=3))]
    shuffle = random.Random(draw(st.integers(0, 9))).shuffle
    shuffle(rows)
    shuffle(perturbed)
    return rows, perturbed


CONFIGS = st.sampled_from([RewardConfig(), RewardConfig(temporal_margin=0.05), RewardConfig.release()])


def score(rows, perturbed, config, rename=lambda video: video):
    responses, mos, groups, sources = (list(column) for column in zip(*rows, strict=True))
    return score_batch(
        responses,
        mos,
        [rename(group) for group in groups],
        perturbed_responses=[text for text, _ in perturbed],
        perturbed_group_ids=[rename(video) for _, video in perturbed],
        data_sources=sources,
        config=config,
    )


@given(batches(), CONFIGS)
def test_it_is_the_single_rewards_put_together(batch, config):
    rows, perturbed = batch
    rewards = score(rows, perturbed, config)
    responses, mos, groups, sources = (list(column) for column in zip(*rows, strict=True))
    if not config.cross_dataset:
        np.testing.assert_array_equal(
            rewards.ranking, ranking_reward(rewards.pred_mos, mos, groups, data_sources=sources)
        )
    assert np.all(rewards.regression <= regression_reward(rewards.pred_mos, mos))
    np.testing.assert_array_equal(rewards.format, format_reward(responses))
    plain = rewards.regression + rewards.ranking + rewards.format
    np.testing.assert_allclose(rewards.total, plain + rewards.temporal)
    assert np.all(rewards.temporal >= 0)
    assert np.all(rewards.total[np.isnan(rewards.pred_mos)] == rewards.format[np.isnan(rewards.pred_mos)])


@pytest.mark.parametrize("scope", ["video", "batch"])
@given(batch=batches(), size=st.integers(2, 4))
def test_parts_of_the_batch_are_batches_of_their_own(batch, size, scope):
    rows, perturbed = batch
    rewards = score(rows, perturbed, RewardConfig(ranking_chunk_size=size, temporal_scope=scope))
    videos = list(dict.fromkeys(row[2] for row in rows))
    for begin in range(0, len(videos), size):
        part = videos[begin : begin + size]
        alone = score(
            [row for row in rows if row[2] in part],
            [pair for pair in perturbed if pair[1] in part],
            RewardConfig(temporal_scope=scope),
        )
        of_part = [position for position, row in enumerate(rows) if row[2] in part]
        for name in ("ranking", "temporal", "total"):
            np.testing.assert_allclose(getattr(rewards, name)[of_part], getattr(alone, name), atol=1e-12)


@given(batches(), CONFIGS, st.randoms())
def test_the_order_and_the_names_in_the_batch_do_not_matter(batch, config, rng):
    rows, perturbed = batch
    order = list(range(len(rows)))
    rng.shuffle(order)
    rewards = score(rows, perturbed, config)
    other = score([rows[i] for i in order], perturbed[::-1], config, rename=lambda video: f"uid-{video}")
    for name in ARRAYS:
        # Sums in another order differ in their last digits, which the ranking's eps may magnify.
        np.testing.assert_allclose(getattr(other, name), getattr(rewards, name)[order], atol=1e-9, err_msg=name)


def test_pickling():
    batch = score_batch(
        [answer("4.00"), ""],
        [4.0, 2.0],
        ["a", "b"],
        perturbed_responses=[answer("3.00")],
        perturbed_group_ids=["a"],
        config=pickle.loads(pickle.dumps(RewardConfig(sigma=0.7))),
    )
    copy = pickle.loads(pickle.dumps(batch))
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(copy, name), getattr(batch, name))
    np.testing.assert_equal(copy.metrics(), batch.metrics())


def test_1024_videos_of_16_responses_in_seconds():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(1024), 16)
    mos = rng.uniform(1, 5, 1024)[groups]
    responses = [
        f"<think>{'The clip looks sharp. ' * 20}</think><answer>{score:.2f}</answer>"
        for score in np.clip(mos + rng.normal(0, 0.5, len(mos)), 1, 5)
    ]
    begin = time.process_time()
    batch = score_batch(responses, mos, groups)
    assert time.process_time() - begin < 5
    assert batch.metrics()["srcc"] > 0.95


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"perturbed_responses": [""]}, "perturbed_group_ids: missing"),
        ({"perturbed_responses": [""], "perturbed_group_ids": ["z"]}, "'z' is not among group_ids"),
        ({"perturbed_responses": [], "perturbed_group_ids": ["a"]}, "perturbed_group_ids: expected 0 values"),
        ({"mos": [4.0]}, "mos: expected 2 values"),
        ({"group_ids": ["a"]}, "group_ids: expected 2 values"),
        ({"data_sources": ["LSVQ"]}, "data_sources: expected 2 values"),
    ],
)
def test_faulty_input_is_named(changes, message):
    arguments = {"responses": ["", ""], "mos": [4.0, 2.0], "group_ids": ["a", "b"]}
    with pytest.raises(ValueError, match=message):
        score_batch(**(arguments | changes))


def test_one_string_is_not_a_batch():
    with pytest.raises(TypeError, match="responses: expected a sequence of strings"):
        score_batch("4.00", [4.0], ["a"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sigma": 0}, "sigma: expected a finite number above 0, got 0"),
        ({"sigma": "0.5"}, "sigma: expected a finite number above 0, got '0.5'"),
        ({"eps": math.inf}, "eps: expected a finite number above 0, got inf"),
        ({"decimal_penalty": 1.5}, "decimal_penalty: expected a finite number of at least 0 and at most 1, got 1.5"),
        ({"min_decimals": -1}, "min_decimals: expected a finite number of at least 0, got -1"),
        ({"temporal_bonus": -0.3}, "temporal_bonus: "),
        ({"temporal_margin": -0.1}, "temporal_margin: expected a finite number of at least 0, got -0.1"),
        ({"temporal_margin": math.inf}, "temporal_margin: expected a finite number of at least 0, got inf"),
        ({"temporal_margin": "0.1"}, "temporal_margin: "),
        ({"ranking_weight": True}, "ranking_weight: "),
        ({"regression_threshold": None}, "regression_threshold: expected a finite number, got None"),
        ({"fallback": "random"}, "fallback: expected one of 'none', 'text', got 'random'"),
        ({"decimals": "all"}, "decimals: expected one of"),
        ({"temporal_scope": "gpu"}, "temporal_scope: expected one of 'video', 'batch'"),
        ({"perturbed_ranked_against": "all"}, "perturbed_ranked_against: expected one of 'original', 'perturbed'"),
        ({"ranking_chunk_size": 1}, "ranking_chunk_size: expected a whole number of at least 2, or null, got 1"),
        ({"ranking_chunk_size": 2.0}, "ranking_chunk_size: "),
        ({"cross_dataset": "no"}, "cross_dataset: expected true or false, got 'no'"),
        ({"score_range": (5.0, 1.0)}, "score_range: expected"),
        ({"score_range": [1.0]}, "score_range: expected"),
        ({"score_range": 5.0}, "score_range: expected"),
    ],
)
def test_the_config_checks_every_field(changes, message):
    with pytest.raises(ValueError, match=message):
        RewardConfig(**changes)


def test_the_config_from_a_mapping():
    config = RewardConfig.from_mapping({"sigma": 0.4, "score_range": [1, 5], "temporal_scope": "batch"})
    assert config == RewardConfig(sigma=0.4, score_range=(1, 5), temporal_scope="batch")
    assert RewardConfig.from_mapping({}) == RewardConfig()
    assert RewardConfig.from_mapping(dataclasses.asdict(RewardConfig.release())) == RewardConfig.release()
    with pytest.raises(ValueError, match=r"unknown reward settings sgima, tau; the settings are sigma, decimal_pen"):
        RewardConfig.from_mapping({"tau": 1, "sgima": 0.4, "eps": 1e-6})


def test_the_config_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        RewardConfig().sigma = 1.0
