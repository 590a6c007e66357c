import io
import itertools
import time

import av
import cv2
import numpy as np
import pandas as pd
import pytest

from vqathinker_verl.demo.clips import make_clip, make_split, plan_split
from vqathinker_verl.demo.degradations import (
    DISTORTIONS,
    PLAYBACK,
    STRENGTHS,
    crf,
    decode_h264,
    degrade,
    encode_h264,
    playback,
    stand_in_mos,
)
from vqathinker_verl.demo.scenes import (
    DURATIONS,
    NUM_FRAMES,
    SIZE,
    SPEEDS,
    TRAIN_REAL_CLIPS,
    VAL_REAL_CLIPS,
    crop_real_clip,
    draw_scene,
)
from vqathinker_verl.frames import segment_centres

REAL_CLIPS = [*TRAIN_REAL_CLIPS, *VAL_REAL_CLIPS]


@pytest.fixture(scope="module")
def scene():
    return draw_scene(np.random.default_rng(3), seconds=4)


def sampled(frames):
    return frames[segment_centres(len(frames), 6)].astype(float)


def steps_to_the_right(frames):
    """Pixels from each sampled frame to the next, by phase correlation: (5,)."""
    gray = [cv2.cvtColor(frame.astype(np.uint8), cv2.COLOR_RGB2GRAY).astype(np.float32) for frame in sampled(frames)]
    window = cv2.createHanningWindow((SIZE, SIZE), cv2.CV_32F)
    return np.array([cv2.phaseCorrelate(a, b, window)[0][0] for a, b in itertools.pairwise(gray)])


def test_stand_in_mos_falls_with_strength_and_stays_on_its_scale():
    scores = [stand_in_mos(strength) for strength in (0.0, *STRENGTHS)]
    assert scores[0] == 95.0
    assert scores[-1] == 5.0
    assert all(a > b for a, b in itertools.pairwise(scores))
    with pytest.raises(ValueError, match=r"strength must be in \[0, 1\], got 1.2"):
        stand_in_mos(1.2)


def test_scenes_are_drawn_by_the_generator_alone():
    first, again = (draw_scene(np.random.default_rng(5), seconds=3) for _ in range(2))
    assert first.shape == (NUM_FRAMES, SIZE, SIZE, 3)
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize("seconds", DURATIONS)
def test_drawn_scenes_move_to_the_right_at_a_steady_speed(seconds):
    slowest, fastest = (speed * seconds / 6 for speed in SPEEDS)
    for seed in range(10):
        steps = steps_to_the_right(draw_scene(np.random.default_rng(seed), seconds))
        assert slowest - 0.5 < np.median(steps) < 1.6 * fastest + 0.5  # shapes are up to 1.6 times as fast
        assert (steps > 0).all()


@pytest.mark.parametrize("seconds", DURATIONS)
@pytest.mark.parametrize("name", REAL_CLIPS)
def test_crops_of_real_clips_move_to_the_right(name, seconds):
    steps = []
    for seed in range(10):
        frames = crop_real_clip(name, np.random.default_rng(seed), seconds)
        assert frames.shape == (NUM_FRAMES, SIZE, SIZE, 3)
        steps.extend(steps_to_the_right(frames))
    # what the clip itself shows moves, too, and now and then there is a cut
    assert SPEEDS[0] * seconds / 6 - 0.5 < np.median(steps) < SPEEDS[1] * seconds / 6 + 0.5
    assert np.mean(np.array(steps) > 0) > 0.8


@pytest.mark.parametrize("distortion", ["blur", "noise", "darkness", "drops"])
def test_stronger_distortion_changes_the_sampled_frames_more(scene, distortion):
    rng = np.random.default_rng(0)
    clean = sampled(scene)
    change = [np.abs(sampled(degrade(scene, distortion, s, rng)) - clean).mean() for s in (0.2, 0.6, 1.0)]
    assert 0.3 < change[0] < change[1] < change[2]


def test_compression_loses_more_with_strength_and_the_clean_crf_next_to_nothing(scene):
    def loss(distortion, strength):
        return np.abs(decode_h264(encode_h264(scene, crf(distortion, strength))) - scene.astype(float)).mean()

    compressed = [loss("compression", strength) for strength in STRENGTHS]
    assert compressed == sorted(compressed)
    assert loss("pristine", 0.0) < compressed[0] / 1.5


@pytest.mark.parametrize("strength", STRENGTHS)
def test_drops_are_seen_by_a_sampler_of_six_frames(scene, strength):
    black = sampled(degrade(scene, "drops", strength, np.random.default_rng(1))).mean(axis=(1, 2, 3)) == 0
    assert black.sum() == round(5 * strength)


@pytest.mark.parametrize("distortion", PLAYBACK)
def test_playback_is_seen_by_a_sampler_of_six_frames_and_grows_with_strength(scene, distortion):
    mean_departures = []
    for strength in STRENGTHS:
        departures = []
        for seed in range(50):
            shown = playback(NUM_FRAMES, distortion, strength, np.random.default_rng(seed))
            assert shown.shape == (NUM_FRAMES,)
            assert shown.min() >= 0
            assert shown.max() < NUM_FRAMES
            steps = np.diff(shown[segment_centres(NUM_FRAMES, 6)]) / 8  # in segments; 1 where nothing is wrong
            departures.append(np.abs(steps - 1).sum())
        assert min(departures) > 1
        mean_departures.append(np.mean(departures))
        degraded = degrade(scene, distortion, strength, np.random.default_rng(2))
        assert np.abs(sampled(degraded) - sampled(scene)).mean() > 1
    assert mean_departures == sorted(mean_departures)


def test_reversed_playback_moves_to_the_left_in_its_share_of_the_clip(scene):
    rng = np.random.default_rng(0)
    backwards = [(steps_to_the_right(degrade(scene, "reversed", s, rng)) < -1).sum() for s in STRENGTHS]
    assert backwards == [1, 2, 3, 4, 5]
    np.testing.assert_array_equal(degrade(scene, "reversed", 1.0, rng), scene[::-1])


def test_judder_steps_ahead_and_back(scene):
    steps = steps_to_the_right(degrade(scene, "judder", 1.0, np.random.default_rng(0)))
    assert (steps[[0, 4]] < -1).all()
    assert steps[2] > 2 * np.median(steps_to_the_right(scene))


@pytest.mark.parametrize("strength", STRENGTHS)
def test_shuffled_segments_change_places_in_their_number(strength):
    for seed in range(20):
        order = playback(NUM_FRAMES, "shuffled", strength, np.random.default_rng(seed))[::8] // 8
        assert sorted(order) == list(range(6))
        assert (order != np.arange(6)).sum() == 1 + round(5 * strength)
        moved = order != np.arange(6)
        assert np.abs(np.diff(order))[moved[1:] | moved[:-1]].min() >= 2


def test_playback_needs_complete_segments():
    with pytest.raises(ValueError, match="multiple of 6 frames, got 47"):
        playback(47, "reversed", 0.5, np.random.default_rng(0))


def test_unknown_distortion_is_named():
    with pytest.raises(ValueError, match="unknown distortion 'rain': expected one of pristine, compression"):
        degrade(np.zeros((6, 8, 8, 3), np.uint8), "rain", 0.5, np.random.default_rng(0))


def test_plan_shares_no_source_and_has_every_mos_under_every_distortion():
    train, val = plan_split("train", 126, seed=0), plan_split("val", 45, seed=0)
    assert not {label.source for label in train} & {label.source for label in val}
    assert {label.source for label in train} >= set(TRAIN_REAL_CLIPS)
    for distortion in DISTORTIONS[1:]:
        assert {label.strength for label in train if label.distortion == distortion} == set(STRENGTHS)
    assert all(label.mos == stand_in_mos(label.strength) for label in train + val)
    assert {label.seconds for label in train} == {label.seconds for label in val} == set(DURATIONS)
    assert plan_split("train", 126, seed=0) == train
    assert plan_split("train", 126, seed=1) != train


def test_clip_bytes_depend_on_the_seed_alone():
    label = plan_split("train", 4, seed=0)[3]
    assert make_clip(label, "train", 3, seed=0) == make_clip(label, "train", 3, seed=0)
    assert make_clip(label, "train", 3, seed=0) != make_clip(label, "train", 3, seed=1)


@pytest.mark.parametrize("number", range(9))
def test_clips_last_as_long_as_their_label_says(number):
    label = plan_split("val", 9, seed=0)[number]
    with av.open(io.BytesIO(make_clip(label, "val", number, seed=0))) as container:
        stream = container.streams.video[0]
        assert stream.frames == NUM_FRAMES
        assert float(stream.duration * stream.time_base) == pytest.approx(label.seconds)


def test_a_split_is_written_completely_and_found_again(tmp_path):
    labels = make_split("val", 7, 0, tmp_path, lambda: None)
    table = pd.read_csv(tmp_path / "labels" / "val.csv")
    assert list(table.columns) == ["video", "mos", "distortion", "strength", "seconds", "source"]
    assert list(table.video) == [label.video for label in labels]
    files = sorted((tmp_path / "videos").iterdir())
    assert [file.name for file in files] == sorted(table.video)
    assert len(decode_h264(files[0].read_bytes())) == NUM_FRAMES

    files[2].unlink()
    before = {file: file.stat().st_mtime_ns for file in files if file.exists()}
    time.sleep(0.01)
    make_split("val", 7, 0, tmp_path, lambda: None)
    assert files[2].exists()
    assert all(file.stat().st_mtime_ns == stamp for file, stamp in before.items())
