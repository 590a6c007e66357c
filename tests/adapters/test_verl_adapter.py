"""Through verl's own loader and reward manager, by the path that a user writes."""

import asyncio
import json
import math
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest

from vqathinker_verl import RewardConfig, score_batch
from vqathinker_verl.adapters.verl import compute_score, compute_score_batched
from vqathinker_verl.rewards.notices import warn_once

PATH = "pkg://vqathinker_verl.adapters.verl"
EXAMPLE = str(Path(__file__).resolve().parents[2] / "examples" / "custom_reward.py")
GOOD, POOR = "<think>Sharp.</think><answer>4.00</answer>", "<think>Noise.</think><answer>2.5</answer>"


def reward_function(name, **reward_kwargs):
    """What verl makes of the configuration."""
    pytest.importorskip("verl")
    from omegaconf import OmegaConf
    from verl.trainer.ppo.reward import get_custom_reward_fn

    settings = {"path": PATH, "name": name, "reward_kwargs": reward_kwargs}
    return get_custom_reward_fn(OmegaConf.create({"reward": {"custom_reward_function": settings}}))


def test_verl_loads_and_calls_the_one_sample_function():
    function = reward_function("compute_score", sigma=1.0, score_range=[1, 5], format_weight=0.5)
    result = function(data_source="LSVQ", solution_str=POOR, ground_truth="3.5", extra_info={"index": 0})
    expected = 0.8 * math.exp(-0.5)
    assert result == pytest.approx(
        {"score": expected + 0.5, "mos": 3.5, "pred_mos": 2.5, "regression": expected, "format": 1, "parse_failure": 0}
    )


def test_in_verls_reward_manager():
    verl = pytest.importorskip("verl")
    import torch
    from verl.experimental.reward_loop.reward_manager.naive import NaiveRewardManager

    class Tokenizer:
        def decode(self, ids, skip_special_tokens):
            return "".join(map(chr, ids.tolist()))

    ids = torch.tensor([[ord(character) for character in GOOD]])
    data = verl.DataProto.from_dict(
        tensors={"responses": ids, "attention_mask": torch.ones_like(ids)},
        non_tensors={
            "data_source": np.array(["LSVQ"], dtype=object),
            "reward_model": np.array([{"style": "rule", "ground_truth": 4.0}], dtype=object),
            "extra_info": np.array([{"video_id": "a"}], dtype=object),
        },
    )
    # With an address, as under a reward model, verl adds arguments of its own.
    for address in (None, "localhost:1"):

        async def score(address=address):
            manager = NaiveRewardManager(None, Tokenizer(), reward_function("compute_score"), address)
            return await manager.run_single(data)

        result = asyncio.run(score())
        assert result["reward_score"] == 2.0
        assert result["reward_extra_info"]["pred_mos"] == 4.0


def test_keys_are_constant_and_values_plain_floats():
    parsed = compute_score("LSVQ", GOOD, 4.0)
    unparsed = compute_score("LSVQ", "4.00", 4.0)
    assert list(parsed) == list(unparsed)
    assert all(type(value) is float for value in (*parsed.values(), *unparsed.values()))
    assert math.isnan(unparsed["pred_mos"])
    assert (unparsed["score"], unparsed["parse_failure"], parsed["parse_failure"]) == (0.0, 1.0, 0.0)
    json.dumps(parsed)


def test_verl_loads_and_calls_the_batch_function():
    function = reward_function("compute_score_batched", sigma=0.6)
    responses, mos = [GOOD, POOR, "4.00", GOOD], [4.0, 2.0, 2.0, 4.0]
    ids = ["a", "b", "b", "a"]
    results = function(
        data_sources=np.array(["LSVQ"] * 4, dtype=object),
        solution_strs=responses,
        ground_truths=mos,
        extra_infos=np.array([{"video_id": video} for video in ids], dtype=object),
    )
    batch = score_batch(responses, mos, ids, config=RewardConfig(sigma=0.6))
    for key, column in (("score", "total"), ("regression",) * 2, ("ranking",) * 2, ("format",) * 2, ("pred_mos",) * 2):
        np.testing.assert_array_equal([result[key] for result in results], getattr(batch, column))
    assert [result["parse_failure"] for result in results] == [0, 0, 1, 0]
    assert [result["mos"] for result in results] == mos
    assert {tuple(result) for result in results} == {tuple(results[0])}
    assert all(type(value) is float for result in results for value in result.values())


def test_verl_hands_extra_rewards_to_the_batch_function():
    settings = {"path": EXAMPLE, "name": "brevity", "weight": 0.2, "kwargs": {"limit": 10}}
    function = reward_function("compute_score_batched", extra_rewards={"brevity": settings})
    arguments = (["LSVQ"] * 2, [GOOD, "4.00"], [4.0, 2.0], [{"video_id": "a"}, {"video_id": "b"}])
    results, plain = function(*arguments), compute_score_batched(*arguments)
    assert results[0] == pytest.approx(plain[0] | {"brevity": 1.0, "score": plain[0]["score"] + 0.2})
    assert results[1] == pytest.approx(plain[1] | {"brevity": math.nan}, nan_ok=True)
    with pytest.raises(ValueError, match="extra reward 'score': this name is taken"):
        compute_score_batched(*arguments, extra_rewards={"score": settings})


def test_the_temporal_settings_are_checked_and_have_no_effect():
    """A run passes all of `vqathinker.reward`, and neither function sees a perturbed video."""
    arguments = (["LSVQ"] * 2, [GOOD, POOR], [4.0, 2.0], [{"video_id": "a"}, {"video_id": "b"}])
    assert compute_score_batched(*arguments, temporal_margin=0.1) == compute_score_batched(*arguments)
    assert compute_score("LSVQ", GOOD, 4.0, temporal_margin=0.1) == compute_score("LSVQ", GOOD, 4.0)
    message = "temporal_margin: expected a finite number of at least 0, got -1"
    with pytest.raises(ValueError, match=message):
        compute_score_batched(*arguments, temporal_margin=-1)
    with pytest.raises(ValueError, match=message):
        compute_score("LSVQ", GOOD, 4.0, temporal_margin=-1)


def test_one_id_in_two_datasets_is_two_videos():
    results = compute_score_batched(["LSVQ", "CGVDS"], [GOOD, POOR], [4.0, 2.0], [{"video_id": "1.mp4"}] * 2)
    assert [result["ranking"] for result in results] == [0.0, 0.0]


@pytest.mark.parametrize("name", ["compute_score", "compute_score_batched"])
def test_it_warns_once_of_what_it_cannot_see(name):
    def call():
        if name == "compute_score":
            return compute_score("LSVQ", GOOD, 4.0)
        extra = [{"video_id": "a"}, {"video_id": "b"}]
        return compute_score_batched(["LSVQ"] * 2, [GOOD, POOR], [4.0, 2.0], extra)

    warn_once.cache_clear()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
        call()
    assert len(caught) == 1
    assert f"adapters.verl.{name} sees" in str(caught[0].message)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"extra_infos": [{"video_id": "a"}, {}]}, r"extra_infos\[1\]: has no video_id"),
        ({"extra_infos": [{"video_id": "a"}, None]}, r"extra_infos\[1\]: has no video_id"),
        ({"extra_infos": [{"video_id": "a"}]}, "extra_infos: expected 2 values"),
        ({"ground_truths": [4.0, "good"]}, r"ground_truths\[1\]: expected the MOS of the video.*got 'good'"),
        ({"ground_truths": [4.0, None]}, r"ground_truths\[1\]: expected the MOS"),
        ({"sgima": 0.5}, "unknown reward setting sgima; the settings are sigma"),
    ],
)
def test_faulty_input_is_named(changes, message):
    arguments = {
        "data_sources": ["LSVQ"] * 2,
        "solution_strs": [GOOD, POOR],
        "ground_truths": [4.0, 2.0],
        "extra_infos": [{"video_id": "a"}, {"video_id": "b"}],
    }
    with pytest.raises(ValueError, match=message):
        compute_score_batched(**(arguments | changes))


def test_a_ground_truth_that_is_no_mos_is_refused():
    with pytest.raises(ValueError, match="ground_truth: expected the MOS of the video, a finite number, got nan"):
        compute_score("LSVQ", GOOD, math.nan)


def test_pickling():
    assert pickle.loads(pickle.dumps(compute_score)) is compute_score
