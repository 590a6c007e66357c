"""Chains: the same for the same seed, stronger is farther from the original, steps that look alike are dropped."""

import csv
import math
from fractions import Fraction

import numpy as np
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import gaussian_filter

from vqathinker_verl.cli.main import main
from vqathinker_verl.frames import VideoError, probe
from vqathinker_verl.synthesis.chains import ChainTask, choose_distortions, make_chain
from vqathinker_verl.synthesis.distortions import DISTORTIONS, distorted_clip
from vqathinker_verl.synthesis.encoding import decode, encode
from vqathinker_verl.synthesis.similarity import ssim

FPS = Fraction(25)


def texture(num_frames=40, height=96, width=128):
    """A moving texture with fine and coarse detail, so that every distortion shows."""
    rng = np.random.default_rng(0)
    picture = rng.integers(40, 216, (height, width, 3)).astype(float)
    picture = (gaussian_filter(picture, (1.2, 1.2, 0)) - 128) * 2.5 + 128
    return np.stack([np.roll(picture, (2 * t, 3 * t), (0, 1)) for t in range(num_frames)]).clip(0, 255).astype(np.uint8)


def encode_scene(path, rate=25, **size):
    path.write_bytes(encode(texture(**size), Fraction(rate)))
    return path


FRAMES = texture()
COMPARED = np.arange(3, 40, 3)


@pytest.mark.parametrize("distortion", DISTORTIONS)
def test_every_strength_is_seen_and_the_strongest_is_farther_from_the_original_than_the_weakest(distortion):
    clean, weak, strong = (
        decode(distorted_clip(FRAMES, FPS, distortion, strength, [0, 1]), COMPARED) for strength in (0.0, 0.25, 1.0)
    )
    assert 1.0 > ssim(clean, weak) > ssim(clean, strong)


@pytest.mark.parametrize("distortion", DISTORTIONS)
def test_the_same_seed_gives_the_same_bytes(distortion):
    first = distorted_clip(FRAMES, FPS, distortion, 0.5, [7, 1])
    assert distorted_clip(FRAMES, FPS, distortion, 0.5, [7, 1]) == first


@pytest.mark.parametrize("distortion", ["noise", "packet_loss", "colour_cast"])
def test_another_seed_gives_other_bytes(distortion):
    clips = {distorted_clip(FRAMES, FPS, distortion, 1.0, [seed, 1]) for seed in range(6)}
    assert len(clips) > 1


def test_strength_0_is_the_original_whatever_the_distortion():
    clips = {distorted_clip(FRAMES, FPS, distortion, 0.0, [0, 1]) for distortion in DISTORTIONS}
    assert clips == {encode(FRAMES, FPS)}
    grey = np.repeat(FRAMES[..., :1], 3, axis=-1)  # 4:2:0 blurs colours, whatever the factor
    assert ssim(decode(encode(grey, FPS), np.arange(len(grey))), grey) > 0.98


@pytest.mark.parametrize(
    ("distortion", "strength"), [("sepia", 0.5), ("blur", 1.5), ("blur", -0.1), ("blur", math.nan)]
)
def test_what_is_no_distortion_or_strength_is_refused(distortion, strength):
    with pytest.raises(ValueError, match=r"unknown distortion 'sepia'|strength: expected"):
        distorted_clip(FRAMES, FPS, distortion, strength, [0])


def plain_ssim(x, y, window=7):
    """Windows one by one, for one channel."""
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    values = []
    for row in range(x.shape[0] - window + 1):
        for column in range(x.shape[1] - window + 1):
            a = x[row : row + window, column : column + window].astype(float)
            b = y[row : row + window, column : column + window].astype(float)
            cov = ((a - a.mean()) * (b - b.mean())).mean()
            values.append(
                (2 * a.mean() * b.mean() + c1)
                * (2 * cov + c2)
                / ((a.mean() ** 2 + b.mean() ** 2 + c1) * (a.var() + b.var() + c2))
            )
    return np.mean(values)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_ssim_is_that_of_a_plain_loop_is_symmetric_and_1_for_equal_frames(seed):
    first, second = np.random.default_rng(seed).integers(0, 256, (2, 1, 12, 11, 3)).astype(np.uint8)
    expected = np.mean([plain_ssim(first[0, ..., c], second[0, ..., c]) for c in range(3)])
    assert ssim(first, second) == pytest.approx(expected, abs=1e-9)
    assert ssim(first, second) == pytest.approx(ssim(second, first), abs=1e-12)
    assert ssim(first, first) == 1.0


def test_ssim_of_other_shapes_is_refused():
    with pytest.raises(ValueError, match="of one shape"):
        ssim(FRAMES, FRAMES[:, :90])


def task_of(path, folder, distortion="blur", strengths=(0.0, 0.5, 1.0), max_ssim=0.98):
    return ChainTask(path.name, str(path), folder, distortion, strengths, 0, 540, 5.0, max_ssim)


def test_steps_that_look_alike_are_dropped(tmp_path):
    path = encode_scene(tmp_path / "a.mp4")
    chain = make_chain(task_of(path, tmp_path / "clips", strengths=(0.0, 0.5, 0.501, 1.0)))
    assert [step.strength for step in chain.steps] == [0.0, 0.5, 1.0]
    assert chain.dropped == (0.501,)
    assert all(step.similarity <= 0.98 for step in chain.steps[1:])


def test_a_chain_whose_steps_all_look_alike_has_no_files(tmp_path):
    path = encode_scene(tmp_path / "a.mp4")
    chain = make_chain(task_of(path, tmp_path / "clips", max_ssim=0.01))
    assert len(chain.steps) == 1
    assert not (tmp_path / "clips").exists()


def test_large_long_and_fast_videos_are_reduced(tmp_path):
    path = encode_scene(tmp_path / "a.mp4", num_frames=80, height=200, width=100, rate=60)
    task = ChainTask("a", str(path), tmp_path, "blur", (0.0, 1.0), 0, 128, 0.5, 0.98)
    chain = make_chain(task)
    assert (chain.height, chain.width, chain.fps, chain.total_frames) == (128, 64, 30.0, 15)
    info = probe(tmp_path / chain.steps[1].video)
    assert (info.height, info.width, info.fps, info.total_frames) == (128, 64, 30.0, 15)


def test_a_short_video_is_refused(tmp_path):
    path = encode_scene(tmp_path / "a.mp4", num_frames=5)
    with pytest.raises(VideoError, match=r"a\.mp4: 5 frames, expected at least 12"):
        make_chain(task_of(path, tmp_path / "clips"))


@given(st.integers(0, 100), st.text(max_size=5), st.integers(1, 14))
def test_the_drawn_distortions_are_known_distinct_and_the_same_each_time(seed, source, count):
    drawn = choose_distortions(source, DISTORTIONS, count, seed)
    assert len(set(drawn)) == count
    assert drawn == sorted(drawn, key=DISTORTIONS.index) == choose_distortions(source, DISTORTIONS, count, seed)


def bytes_of(folder):
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in (folder / "clips").rglob("*.mp4")
        if file.is_file()
    }


def test_the_command_makes_rows_a_sheet_and_a_summary_and_resumes(tmp_path, capsys):
    videos = tmp_path / "videos"
    (videos / "sub").mkdir(parents=True)
    encode_scene(videos / "sub" / "good.mp4")
    (videos / "bad.mp4").write_bytes(b"no video")
    out = tmp_path / "out"
    command = [
        "synthesize",
        str(videos),
        "--output-dir",
        str(out),
        "--distortions",
        "blur",
        "noise",
        "--strengths",
        "3",
    ]
    command += ["--workers", "1"]
    assert main(command) == 1
    printed = capsys.readouterr().out
    assert "6 rows, 2 chains, no MOS" in printed
    assert "1 videos were left out, the first: " in printed
    rows = pyarrow.parquet.read_table(out / "chains.parquet").to_pylist()
    assert [row["extra_info"]["strength"] for row in rows] == [0.0, 0.5, 1.0] * 2
    assert {row["extra_info"]["chain"] for row in rows} == {f"chains/sub/good.mp4/{name}" for name in ("blur", "noise")}
    assert all(math.isnan(row["reward_model"]["ground_truth"]) for row in rows)
    assert all(probe(row["videos"][0]["video"]).total_frames == row["extra_info"]["total_frames"] for row in rows)
    assert len({row["extra_info"]["video_id"] for row in rows}) == 6
    with (out / "rejected.csv").open() as file:
        assert [row["video"] for row in csv.DictReader(file)] == ["bad.mp4"]
    with Image.open(out / "contact_sheet.jpg") as sheet:
        assert sheet.width > 300

    before, parquet = bytes_of(out), (out / "chains.parquet").read_bytes()
    lost = out / "clips" / "sub" / "good.mp4" / "noise_0500.mp4"
    kept = out / "clips" / "sub" / "good.mp4" / "blur_0500.mp4"
    changed = kept.stat().st_mtime_ns
    lost.unlink()
    (out / "chains.jsonl").open("a").write('{"task_key": "cut o')
    assert main(command) == 1
    assert bytes_of(out) == before
    assert (out / "chains.parquet").read_bytes() == parquet
    assert kept.stat().st_mtime_ns == changed  # it was not made again


def test_still_images_make_no_chains_and_are_counted(tmp_path, capsys):
    videos, out = tmp_path / "videos", tmp_path / "out"
    videos.mkdir()
    encode_scene(videos / "a.mp4")
    Image.fromarray(texture(1)[0]).save(videos / "b.png")
    Image.fromarray(texture(1)[0]).save(tmp_path / "c.jpg")
    command = ["synthesize", str(videos), str(tmp_path / "c.jpg"), "--output-dir", str(out), "--distortions", "blur"]
    assert main([*command, "--strengths", "2", "--workers", "1"]) == 0
    rows = pyarrow.parquet.read_table(out / "chains.parquet").to_pylist()
    assert {row["extra_info"]["chain"] for row in rows} == {"chains/a.mp4/blur"}
    assert f"left out 2 still images: {videos}/b.png, {tmp_path}/c.jpg" in capsys.readouterr().err
    (videos / "a.mp4").unlink()
    assert main(command) == 2
    assert f"{videos}/b.png, {tmp_path}/c.jpg: still images make no chains" in capsys.readouterr().err
    assert main(["synthesize", str(tmp_path / "c.jpg"), "--output-dir", str(out)]) == 2
    assert "c.jpg: still images make no chains; pass videos" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--strengths", "1"], "--strengths: expected at least 2, got 1"),
        (["--distortions", "sepia"], "--distortions sepia: unknown"),
        (["--max-ssim", "2"], "--max-ssim: expected a number above 0 and at most 1"),
        (["--max-seconds", "0"], "--max-seconds: expected a number above 0"),
        ([], "no video in this folder"),
    ],
)
def test_wrong_calls_end_in_one_line(tmp_path, capsys, arguments, message):
    videos = tmp_path / "videos"
    videos.mkdir()
    assert main(["synthesize", str(videos), "--output-dir", str(tmp_path / "out"), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()
