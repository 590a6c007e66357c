"""Two steps on images beside videos, on real processes."""

import csv
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet
import pytest
from helpers.runs import START_SECONDS, VQATHINKER, batch, read_jsonl, start_recipe
from PIL import Image

from vqathinker_verl.frames import FrameSpec, decode

pytestmark = pytest.mark.e2e

STEPS, VIDEOS_A_STEP, GROUP_SIZE = 2, 8, 4
SUFFIXES = (".png", ".jpg", ".webp", ".bmp", ".tif")


def write_mixed(demo: Path, folder: Path) -> None:
    """Every second clip of the demo becomes an image, its middle frame; the others stay videos."""
    (folder / "media").mkdir()
    for split in ("train", "val"):
        with (demo / "labels" / f"{split}.csv").open() as file:
            labels = [(row["video"], row["mos"]) for row in csv.DictReader(file)]
        rows = []
        for number, (name, mos) in enumerate(labels):
            media = folder / "media" / name
            if number % 2:
                media = media.with_suffix(SUFFIXES[number // 2 % len(SUFFIXES)])
                frame = decode(demo / "videos" / name, FrameSpec(1, factor=2)).frames[0]
                image = Image.fromarray(frame.transpose(1, 2, 0))
                exif = image.getexif()
                if media.suffix == ".jpg":  # as a phone stores a picture that was taken upright
                    image, exif[274] = image.rotate(90, expand=True), 6
                image.save(media, exif=exif)
            else:
                media.symlink_to((demo / "videos" / name).resolve())
            rows.append(f"{media.name},{mos}\n")
        (folder / f"{split}.csv").write_text("video,mos\n" + "".join(rows))
        command = [*VQATHINKER, "prepare", f"{folder}/{split}.csv", "--video-root", f"{folder}/media", "--follow-links"]
        command += ["--scale", "0", "100", "--dataset", "mixed", "--split", split]
        subprocess.run([*command, "--output", f"{folder}/{split}.parquet"], check=True, timeout=300)


@pytest.fixture(scope="module")
def run(demo, tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    write_mixed(demo, folder)
    output_dir = folder / "run"
    started = start_recipe(
        demo,
        output_dir,
        *batch(VIDEOS_A_STEP, GROUP_SIZE),
        TRAIN_FILES=str(folder / "train.parquet"),
        VAL_FILES=str(folder / "val.parquet"),
        TOTAL_STEPS=str(STEPS),
    )
    assert started.wait(START_SECONDS) == 0, started.text()[-3000:]
    return SimpleNamespace(
        folder=output_dir,
        parquet=folder / "train.parquet",
        metrics={line["step"]: line for line in read_jsonl(output_dir / "metrics.jsonl")},
        rollouts=[read_jsonl(output_dir / "rollouts" / f"{step}.jsonl") for step in range(1, STEPS + 1)],
    )


def is_image(line):
    return line["video_id"].endswith(SUFFIXES)


def test_prepare_asks_about_images_and_videos(run):
    for row in pyarrow.parquet.read_table(run.parquet).to_pylist():
        kind = "video" if row["extra_info"]["video"].endswith(".mp4") else "image"
        assert f"overall rating on the quality of this {kind}?" in row["prompt"][0]["content"]
        assert (row["extra_info"]["total_frames"] == 1) == (kind == "image")


def test_each_batch_trains_on_both(run):
    for lines in run.rollouts:
        assert len(lines) == VIDEOS_A_STEP * GROUP_SIZE
        assert 0 < sum(map(is_image, lines)) < len(lines)
        assert any(line["regression"] > 0 for line in lines if is_image(line))


def test_an_image_has_no_temporal_pair_and_is_counted(run):
    for step, lines in enumerate(run.rollouts, start=1):
        images = [line for line in lines if is_image(line)]
        assert {(line["perturbation"], line["perturbed_response"]) for line in images} == {(None, None)}
        assert {line["temporal"] for line in images} == {0}
        assert any(line["perturbed_response"] is not None for line in lines if not is_image(line))
        assert run.metrics[step]["reward/temporal_excluded"] >= len({line["uid"] for line in images})


def test_sampler_and_trainer_see_the_same(run):
    for step in range(1, STEPS + 1):
        assert run.metrics[step]["training/rollout_actor_probs_pearson_corr"] > 0.999
        assert run.metrics[step]["training/rollout_probs_diff_max"] < 0.02


def test_they_are_validated(run):
    logged = set().union(*run.metrics.values())
    assert {"val/mixed/srcc", "val/mixed/plcc_raw"} <= logged
