"""Ever-changing clips for the warm-up: drawn, degraded and (where compressed) encoded on the fly, never stored."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from vqathinker_verl.demo.degradations import DISTORTIONS, PLAYBACK, crf, decode_h264, degrade, encode_h264
from vqathinker_verl.demo.scenes import DURATIONS, TRAIN_REAL_CLIPS, Frames, crop_real_clip, draw_scene
from vqathinker_verl.frames import segment_centres

NUM_SAMPLED = 6  # frames that the policy sees of a clip
REAL_SHARE = 0.25  # of the scenes: crops of the training side's real clips


@dataclass(frozen=True)
class WarmupClip:
    """Sampled frames (NUM_SAMPLED, H, W, 3) of one degraded scene, with what was done to it."""

    frames: Frames
    distortion: str
    strength: float
    seconds: int


def degraded_versions(rng: np.random.Generator) -> Iterator[WarmupClip]:
    """One new scene, once with every distortion at a strength drawn from [0.15, 1]."""
    seconds = int(rng.choice(DURATIONS))
    if rng.random() < REAL_SHARE:
        scene = crop_real_clip(TRAIN_REAL_CLIPS[rng.integers(len(TRAIN_REAL_CLIPS))], rng, seconds)
    else:
        scene = draw_scene(rng, seconds)
    indices = segment_centres(len(scene), NUM_SAMPLED)
    for distortion in DISTORTIONS:
        strength = 0.0 if distortion == "pristine" else float(rng.uniform(0.15, 1.0))
        if distortion == "compression":
            frames = decode_h264(encode_h264(scene, crf(distortion, strength)), indices)
        elif distortion in ("drops", *PLAYBACK):
            frames = degrade(scene, distortion, strength, rng)[indices]
        else:
            # the others act on each frame by itself, and the encoder's loss at the clean CRF is not visible
            frames = degrade(scene[indices], distortion, strength, rng)
        yield WarmupClip(frames, distortion, strength, seconds)


@dataclass(frozen=True)
class WarmupBatches:
    """Batch number i, drawn from (seed, i): a map-style dataset for torch's DataLoader."""

    num_batches: int
    num_scenes: int  # a batch holds each once with every distortion
    seed: int

    def __len__(self) -> int:
        return self.num_batches

    def __getitem__(self, number: int) -> list[WarmupClip]:
        rng = np.random.default_rng([self.seed, number])
        return [clip for _ in range(self.num_scenes) for clip in degraded_versions(rng)]


def batches(num_batches: int, num_scenes: int, seed: int) -> Iterator[list[WarmupClip]]:
    """The batches in order, drawn ahead by a process of their own."""
    from torch.utils.data import DataLoader

    dataset: Any = WarmupBatches(num_batches, num_scenes, seed)  # torch asks for no more than len() and []
    loader: DataLoader[list[WarmupClip]] = DataLoader(
        dataset,
        batch_size=None,
        collate_fn=_as_it_is,
        num_workers=1,
        prefetch_factor=8,
        multiprocessing_context="spawn",  # a forked child hangs once OpenCV has started its threads
    )
    return iter(loader)


def _as_it_is(batch: list[WarmupClip]) -> list[WarmupClip]:
    return batch
