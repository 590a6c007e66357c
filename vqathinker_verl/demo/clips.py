"""The demo's clips and their labels: degraded scenes as H.264 files, and one CSV per split."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from vqathinker_verl.demo.degradations import DISTORTIONS, STRENGTHS, crf, degrade, encode_h264, stand_in_mos
from vqathinker_verl.demo.scenes import (
    DURATIONS,
    NUM_FRAMES,
    TRAIN_REAL_CLIPS,
    VAL_REAL_CLIPS,
    crop_real_clip,
    draw_scene,
)
from vqathinker_verl.files import write_bytes

SPLITS = ("train", "val")
_REAL_EVERY = 4  # every fourth scene is a crop of a real clip


@dataclass(frozen=True)
class ClipLabel:
    """One row of the labels: `video` relative to the videos folder, `mos` the stand-in on 0 to 100."""

    video: str
    mos: float
    distortion: str
    strength: float
    seconds: int
    source: str


def plan_split(split: str, num_clips: int, seed: int) -> list[ClipLabel]:
    """The labels of a split, before any clip exists.

    Distortions alternate, and strengths are spread evenly over each distortion, so that every MOS occurs with every
    distortion. Each clip shows a different scene. `source` names the drawn scene, or the real clip; no source is in
    both splits.
    """
    rng = np.random.default_rng([seed, SPLITS.index(split)])
    real = TRAIN_REAL_CLIPS if split == "train" else VAL_REAL_CLIPS
    strengths: dict[str, list[float]] = {distortion: [] for distortion in DISTORTIONS}
    labels = []
    for number in range(num_clips):
        distortion = DISTORTIONS[number % len(DISTORTIONS)]
        if not strengths[distortion]:
            strengths[distortion] = [0.0] if distortion == "pristine" else list(rng.permutation(STRENGTHS))
        strength = float(strengths[distortion].pop())
        is_real = number % _REAL_EVERY == _REAL_EVERY - 1
        source = real[number // _REAL_EVERY % len(real)] if is_real else f"drawn-{split}-{number:04d}"
        name = f"{split}_{number:04d}_{distortion}_{round(100 * strength):03d}.mp4"
        seconds = int(rng.choice(DURATIONS))
        labels.append(ClipLabel(name, stand_in_mos(strength), distortion, strength, seconds, source))
    return labels


def make_clip(label: ClipLabel, split: str, number: int, seed: int) -> bytes:
    """The MP4 of one planned clip; the same arguments give the same bytes."""
    rng = np.random.default_rng([seed, SPLITS.index(split), number, 1])
    if label.source.startswith("drawn-"):
        scene = draw_scene(rng, label.seconds)
    else:
        scene = crop_real_clip(label.source, rng, label.seconds)
    frames = degrade(scene, label.distortion, label.strength, rng)
    return encode_h264(frames, crf(label.distortion, label.strength), NUM_FRAMES // label.seconds)


def make_split(split: str, num_clips: int, seed: int, folder: Path, on_clip: Callable[[], None]) -> list[ClipLabel]:
    """Write `videos/*.mp4` and then `data/<split>.csv` under `folder`; clips already there are kept.

    Returns:
        The labels, in the CSV's order.
    """
    import pandas as pd

    labels = plan_split(split, num_clips, seed)
    (folder / "videos").mkdir(parents=True, exist_ok=True)
    (folder / "labels").mkdir(parents=True, exist_ok=True)
    for number, label in enumerate(labels):
        path = folder / "videos" / label.video
        if not path.exists():
            write_bytes(path, make_clip(label, split, number, seed))
        on_clip()
    table = pd.DataFrame([asdict(label) for label in labels])
    write_bytes(folder / "labels" / f"{split}.csv", table.to_csv(index=False).encode())
    return labels
