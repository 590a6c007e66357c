"""Rewards of one's own: what a function gets, what becomes of what it returns, and which configurations are refused."""

import copy
import dataclasses
import importlib.util
import math
import warnings
from pathlib import Path

import numpy as np
import pytest

from vqathinker_verl import ExtraReward, RewardConfig, RewardInputs, score_batch
from vqathinker_verl.rewards.extra import TAKEN, load_extra_rewards

NAN = math.nan
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "custom_reward.py"


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


def answer(number, words=1):
    return f"<think>{'word ' * words}</think><answer>{number}</answer>"


BATCH = {
    "responses": [answer("2.50"), answer("4.00"), "no answer", answer("1.5")],
    "mos": np.array([2.0, 4.0, 4.0, 2.0]),
    "group_ids": ["uid-b", "uid-a", "uid-a", "uid-b"],
    "perturbed_responses": [answer("3.00"), answer("1.00")],
    "perturbed_group_ids": ["uid-a", "uid-b"],
    "data_sources": ["LSVQ"] * 4,
    "video_ids": ["b.mp4", "a.mp4", "a.mp4", "b.mp4"],
    "perturbations": ["reverse", "shuffle"],
}


def score(extra_rewards, **changes):
    return score_batch(**(BATCH | changes), extra_rewards=extra_rewards)


def seen(**changes):
    """What a reward function gets of BATCH."""
    batches = []

    def look(batch):
        batches.append(batch)
        return np.zeros(len(batch))

    score({"look": ExtraReward(look)}, **changes)
    return batches[0]


def constant(value):
    return lambda batch: np.full(len(batch), value)


class TestTheBatch:
    def test_it_holds_the_parsed_responses_and_their_videos(self):
        batch = seen()
        assert isinstance(batch, RewardInputs)
        assert len(batch) == 4
        assert batch.responses == tuple(BATCH["responses"])
        np.testing.assert_array_equal(batch.pred_mos, [2.5, 4.0, NAN, 1.5])
        np.testing.assert_array_equal(batch.decimals, [2, 2, 0, 1])
        np.testing.assert_array_equal(batch.mos, [2.0, 4.0, 4.0, 2.0])
        np.testing.assert_array_equal(batch.group_index, [0, 1, 1, 0])
        assert batch.video_ids == ("b.mp4", "a.mp4", "a.mp4", "b.mp4")
        assert batch.data_sources == ("LSVQ",) * 4
        assert batch.perturbations == (None,) * 4
        np.testing.assert_array_equal(batch.videos.mos, [2.0, 4.0])
        np.testing.assert_array_equal(batch.videos.mean, [2.0, 4.0])
        np.testing.assert_array_equal(batch.videos.variance, [0.5, 0.0])

    def test_perturbed_responses_are_of_the_same_videos(self):
        perturbed = seen().perturbed
        assert perturbed.responses == tuple(BATCH["perturbed_responses"])
        np.testing.assert_array_equal(perturbed.pred_mos, [3.0, 1.0])
        np.testing.assert_array_equal(perturbed.group_index, [1, 0])
        np.testing.assert_array_equal(perturbed.mos, [4.0, 2.0])
        np.testing.assert_array_equal(perturbed.videos.mean, [1.0, 3.0])
        assert perturbed.video_ids == ("a.mp4", "b.mp4")
        assert perturbed.data_sources == ("LSVQ", "LSVQ")
        assert perturbed.perturbations == ("reverse", "shuffle")

    def test_what_the_caller_does_not_name(self):
        batch = seen(video_ids=None, data_sources=None, perturbations=None)
        assert batch.video_ids == tuple(BATCH["group_ids"])
        assert batch.data_sources == (None,) * 4
        assert batch.perturbed.perturbations == (None, None)
        nothing = seen(perturbed_responses=None, perturbed_group_ids=None, perturbations=None).perturbed
        assert len(nothing) == 0
        assert nothing.pred_mos.shape == (0,)
        assert np.isnan(nothing.videos.mean).all()

    def test_nothing_in_it_can_be_changed(self):
        batch = seen()
        arrays = 0
        for record in (batch, batch.videos, batch.perturbed, batch.perturbed.videos):
            for entry in dataclasses.fields(record):
                value = getattr(record, entry.name)
                with pytest.raises(dataclasses.FrozenInstanceError):
                    setattr(record, entry.name, value)
                if isinstance(value, np.ndarray):
                    arrays += 1
                    with pytest.raises(ValueError, match="read-only"):
                        value[:] = 0
                elif entry.name not in ("videos", "perturbed"):
                    assert type(value) is tuple, entry.name
        assert arrays == 20

    def test_the_callers_arrays_stay_writable(self):
        mos = BATCH["mos"].copy()
        seen(mos=mos)
        mos[0] = 5.0

    @pytest.mark.parametrize("name", ["video_ids", "perturbations", "data_sources"])
    def test_a_column_of_another_length_is_refused(self, name):
        with pytest.raises(ValueError, match=f"{name}: expected . values, one per response, got 1"):
            score(None, **{name: ["x"]}, config=RewardConfig(cross_dataset=True))


class TestTheRewards:
    def test_weighted_in_the_total_and_logged_over_the_verdicts(self):
        def reward(batch, *, scale):
            return [scale, NAN, 3.0 * scale, NAN]

        plain = score(None)
        batch = score({"mine": ExtraReward(reward, weight=0.5, kwargs={"scale": 2.0})})
        np.testing.assert_array_equal(batch.extra["mine"], [2.0, NAN, 6.0, NAN])
        np.testing.assert_allclose(batch.total - plain.total, [1.0, 0.0, 3.0, 0.0])
        metrics = batch.metrics()
        assert metrics["mine"] == 4.0
        assert metrics["overall"] == pytest.approx(plain.metrics()["overall"] + 1.0)
        for name in ("regression", "ranking", "temporal", "format", "pred_mos"):
            np.testing.assert_array_equal(getattr(batch, name), getattr(plain, name))

    def test_keys_are_constant_and_in_order(self):
        rewards = {"b": ExtraReward(constant(NAN)), "a": ExtraReward(constant(1.0))}
        empty = {"responses": [], "mos": [], "group_ids": []}
        batches = [score(rewards), score_batch(**empty, extra_rewards=rewards)]
        for batch in batches:
            assert list(batch.extra) == ["b", "a"]
            assert math.isnan(batch.metrics()["b"])
        assert list(batches[0].metrics()) == list(batches[1].metrics())
        assert score(None).extra == {}

    def test_negative_and_zero_weights(self):
        plain = score(None).total
        np.testing.assert_allclose(score({"penalty": ExtraReward(constant(2.0), weight=-0.5)}).total, plain - 1.0)
        logged_only = score({"logged": ExtraReward(constant(2.0), weight=0)})
        np.testing.assert_array_equal(logged_only.total, plain)
        assert logged_only.metrics()["logged"] == 2.0

    def test_what_is_returned_is_copied(self):
        kept = np.ones(4)
        batch = score({"kept": ExtraReward(lambda batch: kept)})
        kept[:] = 7.0
        np.testing.assert_array_equal(batch.extra["kept"], np.ones(4))

    @pytest.mark.parametrize(
        ("returned", "message"),
        [
            (np.zeros(3), "extra reward 'mine': expected 4 values, one per response, got 3"),
            ([0.0, math.inf, 0.0, 0.0], r"extra reward 'mine'\[1\]: expected a finite number or NaN, got inf"),
            (np.zeros((4, 1)), r"extra reward 'mine': expected one dimension, got shape \(4, 1\)"),
            (1.0, r"extra reward 'mine': expected one dimension, got shape \(\)"),
            (None, r"extra reward 'mine': expected one dimension, got shape \(\)"),
            (["good"] * 4, "extra reward 'mine': expected numbers"),
        ],
    )
    def test_what_is_no_reward_is_refused(self, returned, message):
        with pytest.raises(ValueError, match=message):
            score({"mine": ExtraReward(lambda batch: returned)})

    def test_a_function_that_fails_is_named_with_its_reason(self):
        def change(batch):
            batch.pred_mos[0] = 5.0

        with pytest.raises(RuntimeError, match=r"extra reward 'mine' failed: ValueError: .*read-only") as caught:
            score({"mine": ExtraReward(change)})
        assert isinstance(caught.value.__cause__, ValueError)


class TestTheBuiltInRewards:
    """Each of the four takes the same batch object; three of them can be named in a configuration."""

    @pytest.mark.parametrize(
        ("name", "kwargs"),
        [("regression", {"sigma": 0.7}), ("ranking", {"eps": 1e-4}), ("format", {})],
    )
    def test_by_its_path_it_is_the_component(self, name, kwargs):
        path = f"pkg://vqathinker_verl.rewards.{name}"
        settings = {"again": {"path": path, "name": f"batch_{name}", "kwargs": kwargs}}
        batch = score(settings, config=RewardConfig(**kwargs))
        component = getattr(batch, name)
        np.testing.assert_array_equal(np.nan_to_num(batch.extra["again"]), component)
        verdicts = batch.extra["again"][~np.isnan(batch.pred_mos)]
        assert not np.isnan(verdicts).any()
        assert verdicts.max() > 0.5

    def test_no_verdict_is_nan_and_becomes_zero_in_the_batch(self):
        settings = {
            name + "_again": {"path": f"pkg://vqathinker_verl.rewards.{name}", "name": f"batch_{name}"}
            for name in ("regression", "ranking")
        }
        alone = score_batch([answer("4.00"), ""], [4.0, 4.0], ["a", "a"], extra_rewards=settings)
        np.testing.assert_array_equal(alone.extra["regression_again"], [1.0, NAN])
        np.testing.assert_array_equal(alone.extra["ranking_again"], [NAN, NAN])
        assert alone.ranking.tolist() == [0.0, 0.0]
        assert alone.regression.tolist() == [1.0, 0.0]


class TestTheConfiguration:
    def settings(self, **changes):
        return {"brevity": {"path": str(EXAMPLE), "name": "brevity", "weight": 0.2, "kwargs": {"limit": 3}} | changes}

    @pytest.mark.parametrize("path", [str(EXAMPLE), f"file://{EXAMPLE}"])
    def test_a_function_by_the_path_of_its_file(self, path):
        responses = [answer("2.50", words=4), answer("4.00"), "", ""]
        batch = score(self.settings(path=path), responses=responses)
        np.testing.assert_allclose(batch.extra["brevity"], [2 / 3, 1.0, NAN, NAN])
        plain = score(None, responses=responses).total
        np.testing.assert_allclose(batch.total - plain, [0.2 * 2 / 3, 0.2, 0.0, 0.0])

    def test_a_relative_path(self, monkeypatch):
        monkeypatch.chdir(EXAMPLE.parent)
        assert load_extra_rewards(self.settings(path="custom_reward.py"))["brevity"].kwargs == {"limit": 3}

    @pytest.mark.parametrize("path", ["pkg://my_rewards.short", "pkg://my_rewards/short"])
    def test_a_function_by_its_package(self, path, tmp_path, monkeypatch):
        (tmp_path / "my_rewards").mkdir()
        (tmp_path / "my_rewards" / "short.py").write_text("def one(batch): return [1.0] * len(batch)\n")
        monkeypatch.syspath_prepend(tmp_path)
        assert score({"one": {"path": path, "name": "one"}}).extra["one"].tolist() == [1.0] * 4

    def test_any_callable_serves_also_one_with_a_dataclass_in_its_file(self, tmp_path):
        file = tmp_path / "callable.py"
        file.write_text(
            "from __future__ import annotations\nfrom dataclasses import dataclass\n"
            "@dataclass\nclass Constant:\n    value: float\n"
            "    def __call__(self, batch): return [self.value] * len(batch)\ntwo = Constant(2.0)\n"
        )
        assert score({"two": {"path": str(file), "name": "two"}}).extra["two"].tolist() == [2.0] * 4

    def test_weight_and_kwargs_have_defaults(self):
        reward = load_extra_rewards({"listwise": {"path": str(EXAMPLE), "name": "listwise"}})["listwise"]
        assert (reward.weight, reward.kwargs) == (1.0, {})
        assert load_extra_rewards(None) == load_extra_rewards({}) == {}

    def test_hydras_containers_arrive_as_plain_lists_and_dicts(self, tmp_path):
        omegaconf = pytest.importorskip("omegaconf")
        file = tmp_path / "kinds.py"
        file.write_text("kept = []\ndef keep(batch, options): kept.append(options); return [0.0] * len(batch)\n")
        settings = {"path": str(file), "name": "keep", "kwargs": {"options": {"words": ["a", "b"]}}}
        rewards = load_extra_rewards(omegaconf.OmegaConf.create({"keep": settings}))
        score(rewards)
        kept = rewards["keep"].function.__globals__["kept"]
        assert kept == [{"words": ["a", "b"]}]
        assert (type(kept[0]), type(kept[0]["words"])) == (dict, list)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"path": "/no/such/file.py"}, "/no/such/file.py: no such Python file; expected pkg://package.module or"),
            ({"path": "my_project.rewards"}, "my_project.rewards: no such Python file"),
            ({"path": "pkg://no_such_project"}, "pkg://no_such_project: cannot be imported, ModuleNotFoundError: No m"),
            ({"path": ""}, "path: expected text, got ''"),
            ({"name": "brevitty"}, "custom_reward.py: has no 'brevitty'"),
            ({"name": "MOS"}, "'MOS' is not a function but of type dict"),
            ({"name": None}, "name: expected text, got None"),
            ({"weight": "high"}, "weight: expected a finite number, got 'high'"),
            ({"weight": NAN}, "weight: expected a finite number, got nan"),
            ({"weight": True}, "weight: expected a finite number, got True"),
            ({"weight": None}, "weight: expected a finite number, got None"),
            (
                {"kwargs": {"limits": 3}},
                r"kwargs: the function takes \(batch, limit\), .*unexpected keyword argument 'limits'",
            ),
            ({"kwargs": {"batch": 3}}, r"cannot be called with a batch .*multiple values for argument 'batch'"),
            ({"kwargs": [3]}, r"kwargs: expected a mapping, got \[3\]"),
            ({"wieght": 1}, "unknown setting wieght; the settings are path, name, weight, kwargs"),
        ],
    )
    def test_a_faulty_field_is_named_with_its_reward(self, changes, message):
        with pytest.raises(ValueError, match=f"^extra reward 'brevity': .*{message}") as caught:
            load_extra_rewards(self.settings(**changes))
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("rewards", "message"),
        [
            ({"total": ExtraReward(constant(0.0))}, "extra reward 'total': this name is taken"),
            ({"ranking": ExtraReward(constant(0.0))}, "extra reward 'ranking': this name is taken"),
            ({"total/mine": ExtraReward(constant(0.0))}, "extra reward 'total/mine': expected a name of letters"),
            ({7: ExtraReward(constant(0.0))}, "extra reward 7: expected a name of letters"),
            ({"mine": "pkg://my_project.rewards"}, "extra reward 'mine': expected a mapping with path, name"),
            (["brevity"], "extra_rewards: expected a mapping from names to rewards"),
        ],
    )
    def test_a_faulty_name_or_mapping(self, rewards, message):
        with pytest.raises(ValueError, match=message):
            score(rewards)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("def brevity(batch:\n", "cannot be imported, SyntaxError"),
            ("raise ValueError('of its\\nown')", "cannot be imported, ValueError: of its own"),
            ("import no_such_project", "cannot be imported, ModuleNotFoundError"),
        ],
    )
    def test_a_file_that_cannot_be_imported(self, text, message, tmp_path):
        file = tmp_path / "broken.py"
        file.write_text(text)
        with pytest.raises(ValueError, match=f"extra reward 'brevity': .*broken.py: {message}"):
            load_extra_rewards(self.settings(path=str(file)))

    def test_a_function_that_is_none(self):
        with pytest.raises(ValueError, match="expected a function, got 'brevity'"):
            ExtraReward("brevity")

    def test_what_is_logged_or_returned_beside_a_reward_is_taken(self):
        batch = score(None)
        columns = {entry.name for entry in dataclasses.fields(batch)} - {
            "extra",
            "group_index",
            "videos",
            "comparisons",
        }
        assert batch.metrics().keys() | columns <= TAKEN


class TestTheExample:
    @pytest.fixture(scope="class")
    def example(self):
        spec = importlib.util.spec_from_file_location("custom_reward_example", EXAMPLE)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    @pytest.mark.parametrize(("words", "expected"), [(0, 1.0), (10, 1.0), (15, 0.5), (20, 0.0), (30, 0.0)])
    def test_brevity(self, example, words, expected):
        batch = score({"brevity": ExtraReward(example.brevity, kwargs={"limit": 10})})
        assert np.isnan(batch.extra["brevity"]).tolist() == [False, False, True, False]
        batch = score_batch(
            [answer("2.00", words=words)],
            [2.0],
            ["a"],
            extra_rewards={"b": ExtraReward(example.brevity, 1.0, {"limit": 10})},
        )
        assert batch.extra["b"].tolist() == [pytest.approx(expected)]

    def test_listwise_against_a_plain_loop(self, example):
        rng = np.random.default_rng(0)
        groups = np.repeat(np.arange(5), 3)
        mos, sources = rng.uniform(1, 5, 5), np.array(["LSVQ", "LSVQ", "CGVDS", "LSVQ", "KoNViD-1k"])
        scores = rng.uniform(1, 5, 15).round(2)
        responses = [answer(f"{value:.2f}") for value in scores]
        responses[4] = "no answer"
        batch = score_batch(
            responses,
            mos[groups],
            groups,
            data_sources=sources[groups],
            extra_rewards={"l": ExtraReward(example.listwise)},
        )
        means = [np.mean([scores[row] for row in range(15) if groups[row] == video and row != 4]) for video in range(5)]
        for row in range(15):
            peers = [video for video in range(5) if sources[video] == sources[groups[row]]]
            if row == 4 or len(peers) == 1:
                assert math.isnan(batch.extra["l"][row])
                continue
            given = [scores[row] if video == groups[row] else means[video] for video in peers]
            p = [math.exp(2 * mos[video]) for video in peers]
            q = [math.exp(2 * value) for value in given]
            terms = [a / sum(p) * math.log(a / sum(p) / (b / sum(q))) for a, b in zip(p, q, strict=True)]
            assert batch.extra["l"][row] == pytest.approx(math.exp(-sum(terms)))

    def test_listwise_is_one_for_the_labels_themselves(self, example):
        mos = [1.25, 3.0, 4.5]
        rewards = {"l": ExtraReward(example.listwise)}
        right = score_batch([answer(f"{value:.2f}") for value in mos], mos, list("abc"), extra_rewards=rewards)
        np.testing.assert_allclose(right.extra["l"], 1.0)
        wrong = score_batch([answer(f"{value:.2f}") for value in mos[::-1]], mos, list("abc"), extra_rewards=rewards)
        assert wrong.extra["l"].max() < 0.1


def test_inputs_can_be_copied():
    batch = seen()
    np.testing.assert_array_equal(copy.deepcopy(batch).pred_mos, batch.pred_mos)
