import itertools
import time

import numpy as np
import pandas as pd
import pytest

from vqathinker_verl.demo.clips import make_clip, make_split, plan_split
from vqathinker_verl.demo.degradations import (
    DISTORTIONS,
    STRENGTHS,
    crf,
    decode_h264,
    degrade,
    encode_h264,
    stand_in_mos,
)
from vqathinker_verl.demo.scenes import NUM_FRAMES, SIZE, TRAIN_REAL_CLIPS, VAL_REAL_CLIPS, crop_real_clip, draw_scene
from vqathinker_verl.frames import segment_centres


@pytest.fixture(scope="module")
def scene():
    return draw_scene(np.random.default_rng(3))


def sampled(frames):
    return frames[segment_centres(len(frames), 6)].astype(float)


def test_stand_in_mos_falls_with_strength_and_stays_on_its_scale():
    scores = [stand_in_mos(strength) for strength in (0.0, *STRENGTHS)]
    assert scores[0] == 95.0
    assert scores[-1] == 5.0
    assert all(a > b for a, b in itertools.pairwise(scores))
    with pytest.raises(ValueError, match=r"strength must be in \[0, 1\], got 1.2"):
        stand_in_mos(1.2)


def test_scenes_are_drawn_by_the_generator_alone_and_move():
    first, again = (draw_scene(np.random.default_rng(5)) for _ in range(2))
    assert first.shape == (NUM_FRAMES, SIZE, SIZE, 3)
    np.testing.assert_array_equal(first, again)
    assert (np.abs(np.diff(sampled(first), axis=0)).mean(axis=(1, 2, 3)) > 3).all()


@pytest.mark.parametrize("name", [*TRAIN_REAL_CLIPS, *VAL_REAL_CLIPS])
def test_real_clips_are_found_and_move(name):
    frames = crop_real_clip(name, np.random.default_rng(0))
    assert frames.shape == (NUM_FRAMES, SIZE, SIZE, 3)
    assert np.abs(np.diff(sampled(frames), axis=0)).mean() > 3


@pytest.mark.parametrize("distortion", ["blur", "noise", "darkness", "drops", "stutter"])
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
def test_temporal_distortions_are_seen_by_a_sampler_of_six_frames(scene, strength):
    rng = np.random.default_rng(1)
    black = (sampled(degrade(scene, "drops", strength, rng)).mean(axis=(1, 2, 3)) == 0).sum()
    frozen = (np.abs(np.diff(sampled(degrade(scene, "stutter", strength, rng)), axis=0)).max(axis=(1, 2, 3)) == 0).sum()
    assert black == frozen == round(5 * strength)


def test_unknown_distortion_is_named():
    with pytest.raises(ValueError, match="unknown distortion 'rain': expected one of pristine, compression"):
        degrade(np.zeros((6, 8, 8, 3), np.uint8), "rain", 0.5, np.random.default_rng(0))


def test_plan_shares_no_source_and_has_every_mos_under_every_distortion():
    train, val = plan_split("train", 126, seed=0), plan_split("val", 42, seed=0)
    assert not {label.source for label in train} & {label.source for label in val}
    assert {label.source for label in train} >= set(TRAIN_REAL_CLIPS)
    for distortion in DISTORTIONS[1:]:
        assert {label.strength for label in train if label.distortion == distortion} == set(STRENGTHS)
    assert all(label.mos == stand_in_mos(label.strength) for label in train + val)
    assert plan_split("train", 126, seed=0) == train
    assert plan_split("train", 126, seed=1) != train


def test_clip_bytes_depend_on_the_seed_alone():
    label = plan_split("train", 4, seed=0)[3]
    assert make_clip(label, "train", 3, seed=0) == make_clip(label, "train", 3, seed=0)
    assert make_clip(label, "train", 3, seed=0) != make_clip(label, "train", 3, seed=1)


def test_split_is_written_whole_and_found_again(tmp_path):
    labels = make_split("val", 7, 0, tmp_path, lambda: None)
    table = pd.read_csv(tmp_path / "labels" / "val.csv")
    assert list(table.columns) == ["video", "mos", "distortion", "strength", "source"]
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
