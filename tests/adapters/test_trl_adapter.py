import math
import pickle
import warnings

import pytest

from vqathinker_verl import RewardConfig, ranking_reward
from vqathinker_verl.adapters.trl import CustomReward, FormatReward, RankingReward, RegressionReward
from vqathinker_verl.rewards.notices import warn_once
from vqathinker_verl.rewards.ranking import batch_ranking

COMPLETIONS = [
    "<think>Sharp.</think><answer>4.00</answer>",
    "<think>Noise.</think><answer>2.5</answer>",
    "<think>Noise.</think><answer>2.00</answer>",
    "no answer",
]
MOS, IDS = [4.0, 2.0, 2.0, 4.0], ["a", "b", "b", "a"]


def test_values():
    assert RegressionReward()(COMPLETIONS, mos=MOS) == pytest.approx([1.0, 0.8 * math.exp(-0.5), 1.0, 0.0])
    expected = ranking_reward([4.0, 2.5, 2.0, math.nan], MOS, IDS).tolist()
    assert RankingReward()(COMPLETIONS, mos=MOS, video_id=IDS) == expected
    assert FormatReward()(COMPLETIONS, mos=MOS) == [1.0, 1.0, 1.0, 0.0]


def test_the_config_counts():
    assert RegressionReward(RewardConfig(sigma=1.0, decimal_penalty=1.0))(COMPLETIONS, mos=MOS)[1] == pytest.approx(
        math.exp(-0.125)
    )
    apart = RankingReward()(COMPLETIONS, mos=MOS, video_id=IDS, data_source=["LSVQ", "CGVDS", "CGVDS", "LSVQ"])
    assert apart == [0.0] * 4
    together = RankingReward(RewardConfig(cross_dataset=True))(
        COMPLETIONS, mos=MOS, video_id=IDS, data_source=["LSVQ", "CGVDS", "CGVDS", "LSVQ"]
    )
    assert together == RankingReward()(COMPLETIONS, mos=MOS, video_id=IDS)


def test_the_temporal_settings_have_no_effect():
    config = RewardConfig(temporal_margin=0.1)
    columns = {"mos": MOS, "video_id": IDS}
    for reward in (RegressionReward, RankingReward):
        assert reward(config)(COMPLETIONS, **columns) == reward()(COMPLETIONS, **columns)


def test_conversations():
    messages = [[{"role": "assistant", "content": text}] for text in COMPLETIONS]
    parts = [[{"role": "assistant", "content": [{"type": "text", "text": text}]}] for text in COMPLETIONS]
    for reward, columns in ((RegressionReward(), {}), (RankingReward(), {"video_id": IDS}), (FormatReward(), {})):
        plain = reward(COMPLETIONS, mos=MOS, **columns)
        assert reward(messages, mos=MOS, **columns) == reward(parts, mos=MOS, **columns) == plain


@pytest.mark.parametrize("reward", [RegressionReward(RewardConfig(sigma=0.7)), RankingReward(), FormatReward()])
def test_pickling_and_names(reward):
    copy = pickle.loads(pickle.dumps(reward))
    columns = {"mos": MOS, "video_id": IDS}
    assert copy(COMPLETIONS, **columns) == reward(COMPLETIONS, **columns)
    assert copy.__name__ == reward.__name__
    assert copy.__name__ in ("regression_reward", "ranking_reward", "format_reward")


def misses(batch, *, scale=1.0):
    return scale * abs(batch.pred_mos - batch.mos)


def test_a_reward_of_ones_own():
    reward = CustomReward("misses", misses, kwargs={"scale": 2.0})
    for copy in (reward, pickle.loads(pickle.dumps(reward))):
        assert copy.__name__ == "misses"
        assert copy(COMPLETIONS, mos=MOS, video_id=IDS) == [0.0, 1.0, 0.0, None]  # None: no verdict
    with pytest.raises(ValueError, match=r"the function takes \(batch, scale\), .*'scales'"):
        CustomReward("misses", misses, kwargs={"scales": 2.0})
    with pytest.raises(ValueError, match=r"extra reward 'one': expected 4 values, one per response, got 1"):
        CustomReward("one", lambda batch: [1.0])(COMPLETIONS, mos=MOS, video_id=IDS)


def test_a_reward_of_ones_own_sees_the_groups_and_the_data_sets():
    for columns in ({}, {"data_source": ["LSVQ"] * 4}, {"data_source": ["LSVQ", "CGVDS", "CGVDS", "LSVQ"]}):
        expected = RankingReward()(COMPLETIONS, mos=MOS, video_id=IDS, **columns)
        again = CustomReward("again", batch_ranking)(COMPLETIONS, mos=MOS, video_id=IDS, **columns)
        assert [value or 0.0 for value in again] == expected


def test_parse_failures_are_logged_through_trl():
    logged = []
    RegressionReward()(COMPLETIONS, mos=MOS, log_metric=lambda name, value: logged.append((name, value)))
    assert logged == [("parse_failure_rate", 0.25)]


def test_it_warns_once_of_what_it_cannot_see():
    warn_once.cache_clear()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        RankingReward()(COMPLETIONS, mos=MOS, video_id=IDS)
        RankingReward()(COMPLETIONS, mos=MOS, video_id=IDS)
    assert ["no temporal bonus" in str(entry.message) for entry in caught] == [True]


def test_a_missing_group_id_is_an_error():
    with pytest.raises(ValueError, match=r"video_id\[0\]: has no video_id"):
        RankingReward()(COMPLETIONS, mos=MOS)
    with pytest.raises(ValueError, match=r"video_id\[2\]: has no video_id"):
        RankingReward()(COMPLETIONS, mos=MOS, video_id=["a", "b", None, "a"])


def test_a_mos_that_is_none_is_an_error():
    with pytest.raises(ValueError, match=r"mos\[1\]: expected the MOS of the video"):
        RegressionReward()(COMPLETIONS, mos=[4.0, "", 2.0, 4.0])
