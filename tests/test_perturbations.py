import collections
import itertools
import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqathinker_verl.perturbations import PERTURBATIONS, PerturbationConfig, draw_perturbation, perturbation_rng


def draw(name, num_frames, seed=0, **settings):
    return draw_perturbation(
        num_frames, np.random.default_rng(seed), PerturbationConfig(weights={name: 1.0}, **settings)
    )


@given(st.sampled_from(PERTURBATIONS), st.integers(2, 20), st.integers(0, 1000))
def test_every_draw_keeps_the_number_of_frames_and_changes_the_video(name, num_frames, seed):
    perturbation = draw(name, num_frames, seed)
    assert perturbation.name == name
    assert perturbation.indices.dtype == np.int64
    assert perturbation.black.dtype == np.bool_
    assert perturbation.indices.shape == perturbation.black.shape == (num_frames,)
    assert np.all((perturbation.indices >= 0) & (perturbation.indices < num_frames))
    assert perturbation.black.any() or (perturbation.indices != np.arange(num_frames)).any()
    assert not perturbation.black.all()
    assert perturbation.black.any() == (name == "random_drop")


@given(st.integers(2, 20), st.integers(0, 1000))
def test_shuffles_are_permutations(num_frames, seed):
    for name in ("shuffle", "local_shuffle", "reverse"):
        assert sorted(draw(name, num_frames, seed).indices) == list(range(num_frames))


@given(st.integers(2, 20), st.integers(2, 6), st.integers(0, 1000))
def test_local_shuffle_stays_inside_its_windows(num_frames, window, seed):
    indices = draw("local_shuffle", num_frames, seed, window=window).indices
    assert np.all(indices // window == np.arange(num_frames) // window)


def test_reverse():
    assert draw("reverse", 5).indices.tolist() == [4, 3, 2, 1, 0]


@given(st.integers(2, 20), st.integers(0, 1000))
def test_jitter_takes_the_frame_or_a_neighbour(num_frames, seed):
    assert np.all(np.abs(draw("jitter", num_frames, seed).indices - np.arange(num_frames)) <= 1)


@given(st.integers(2, 20), st.integers(0, 1000))
def test_duplicate_repeats_one_frame_one_to_three_times(num_frames, seed):
    indices = draw("duplicate", num_frames, seed).indices
    shown = np.bincount(indices, minlength=num_frames)
    assert np.all(np.diff(indices) >= 0)  # the order of what is left stays
    assert np.sum(shown > 1) == 1
    assert 2 <= shown.max() <= 4
    assert np.sum(shown == 0) == shown.max() - 1


@given(st.integers(2, 20), st.integers(0, 1000))
def test_duplicate_at_a_random_place_keeps_the_other_frames_in_order(num_frames, seed):
    indices = draw("duplicate", num_frames, seed, duplicate_place="random", redraw_identity=False).indices
    assert len(indices) == num_frames

    def explained(repeated, repeats, place):
        """Whether `repeats` copies of `repeated` stand at `place`, among frames that are left of 0, 1, 2, ..."""
        rest = np.concatenate([indices[:place], indices[place + repeats :]])
        return np.all(indices[place : place + repeats] == repeated) and np.all(np.diff(rest) > 0)

    assert any(
        explained(repeated, repeats, place)
        for repeated in range(num_frames)
        for repeats in range(1, min(3, num_frames - 1) + 1)
        for place in range(num_frames - repeats + 1)
    )


def test_a_duplicate_at_a_random_place_by_enumeration():
    """Of 3 frames, the release's code draws the frame, the number, the place and the dropped ones, each evenly."""
    chances = collections.Counter()
    for repeated, repeats, place in itertools.product(range(3), (1, 2), range(4)):
        longer = [*range(place), *[None] * repeats, *range(place, 3)]
        drops = list(itertools.combinations(range(3), repeats))
        for dropped in drops:
            shown = tuple(repeated if frame is None else frame for frame in longer if frame not in dropped)
            chances[shown] += 1 / (3 * 2 * 4 * len(drops))
    rng = np.random.default_rng(0)
    config = PerturbationConfig(weights={"duplicate": 1}, duplicate_place="random", redraw_identity=False)
    draws = 20_000
    drawn = collections.Counter(tuple(draw_perturbation(3, rng, config).indices.tolist()) for _ in range(draws))
    assert set(drawn) == set(chances)
    for shown, chance in chances.items():
        assert drawn[shown] / draws == pytest.approx(chance, abs=5 * np.sqrt(chance / draws)), shown


def test_identity_draws_are_possible_where_they_are_not_drawn_again():
    for name in ("shuffle", "local_shuffle", "jitter"):
        rng = np.random.default_rng(0)
        config = PerturbationConfig(weights={name: 1}, redraw_identity=False)
        unchanged = [draw_perturbation(3, rng, config).indices.tolist() == [0, 1, 2] for _ in range(2000)]
        chance = {"shuffle": 1 / 6, "local_shuffle": 1 / 6, "jitter": 4 / 27}[name]  # jitter: ends stay with 2/3
        assert np.mean(unchanged) == pytest.approx(chance, abs=0.04), name


@given(st.integers(2, 20), st.integers(0, 1000))
def test_random_drop_blackens_one_to_three_frames(num_frames, seed):
    perturbation = draw("random_drop", num_frames, seed)
    assert perturbation.indices.tolist() == list(range(num_frames))
    assert 1 <= perturbation.black.sum() <= min(3, num_frames - 1)


def test_all_numbers_of_repeats_and_drops_occur():
    assert {np.bincount(draw("duplicate", 8, seed).indices).max() for seed in range(50)} == {2, 3, 4}
    assert {int(draw("random_drop", 8, seed).black.sum()) for seed in range(50)} == {1, 2, 3}


def test_what_the_indices_mean():
    frames = np.arange(6)[:, None, None, None] * np.ones((1, 3, 2, 2))
    perturbation = draw("random_drop", 6)
    shown = frames[perturbation.indices]
    shown[perturbation.black] = 0
    assert shown.shape == frames.shape


def test_a_single_frame_cannot_be_perturbed():
    assert draw_perturbation(1, np.random.default_rng(0)) is None


def test_two_frames_can_by_every_kind():
    assert {draw_perturbation(2, np.random.default_rng(seed)).name for seed in range(200)} == set(PERTURBATIONS)


def test_no_frames_are_refused():
    with pytest.raises(ValueError, match="num_frames: expected at least 1, got 0"):
        draw_perturbation(0, np.random.default_rng(0))


def test_odds():
    config = PerturbationConfig(weights={"reverse": 1, "shuffle": 3, "jitter": 0})
    names = [draw_perturbation(6, np.random.default_rng(seed), config).name for seed in range(2000)]
    assert set(names) == {"reverse", "shuffle"}
    assert names.count("shuffle") / 2000 == pytest.approx(0.75, abs=0.04)  # four standard errors


def test_the_same_key_draws_the_same_in_any_process():
    code = (
        "import json; from vqathinker_verl.perturbations import *; p = draw_perturbation(12, "
        "perturbation_rng(7, 42, 'yfcc-batch6/4134.mp4'));"
        "print(json.dumps([p.name, p.indices.tolist(), p.black.tolist()]))"
    )
    runs = [
        json.loads(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)
        for _ in range(2)
    ]
    here = draw_perturbation(12, perturbation_rng(7, 42, "yfcc-batch6/4134.mp4"))
    assert runs[0] == runs[1] == [here.name, here.indices.tolist(), here.black.tolist()]


def test_every_part_of_the_key_counts():
    keys = [
        (0, 0, "a"),
        (1, 0, "a"),
        (0, 1, "a"),
        (0, 0, "b"),
        (1, 11, "a"),
        (11, 1, "a"),
        (0, 0, "\ud800"),
        (0, 0, ""),
    ]
    assert len({perturbation_rng(*key).integers(2**63) for key in keys}) == len(keys)


def test_each_response_has_a_generator_of_its_own_if_asked():
    draws = [perturbation_rng(0, 1, "a", response).integers(2**63) for response in (None, 0, 1, 2)]
    assert len(set(draws)) == len(draws)
    assert perturbation_rng(0, 1, "a", 2).integers(2**63) == draws[-1]


def test_the_order_in_which_odds_are_written_does_not_matter():
    forth, back = dict.fromkeys(PERTURBATIONS, 1.0), dict.fromkeys(reversed(PERTURBATIONS), 1.0)
    for step in range(20):
        drawn = [
            draw_perturbation(8, perturbation_rng(0, step, "a"), PerturbationConfig(weights=weights)).indices.tolist()
            for weights in (forth, back)
        ]
        assert drawn[0] == drawn[1]


def test_pickling():
    config = PerturbationConfig(weights={"jitter": 2}, window=3)
    assert pickle.loads(pickle.dumps(config)) == config


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weights": {"shufle": 1}}, "weights: unknown shufle; the perturbations are shuffle, local_shuffle"),
        ({"weights": {"shuffle": -1}}, "weights.shuffle: expected a number of at least 0, got -1"),
        ({"weights": {"shuffle": "often"}}, "weights.shuffle: expected a number"),
        ({"weights": {"shuffle": float("nan")}}, "weights.shuffle: expected a number"),
        ({"weights": {}}, "at least one perturbation"),
        ({"weights": {"shuffle": 0}}, "at least one perturbation"),
        ({"window": 1}, "window: expected a whole number of at least 2, got 1"),
        ({"max_duplicates": 0}, "max_duplicates: expected"),
        ({"max_drops": 1.5}, "max_drops: expected"),
        ({"duplicate_place": "anywhere"}, "duplicate_place: expected one of 'adjacent', 'random', got 'anywhere'"),
        ({"drop_fill": "white"}, "drop_fill: expected one of 'black', 'mean', got 'white'"),
        ({"redraw_identity": "no"}, "redraw_identity: expected true or false, got 'no'"),
    ],
)
def test_the_config_checks_every_field(settings, message):
    with pytest.raises(ValueError, match=message):
        PerturbationConfig(**settings)
