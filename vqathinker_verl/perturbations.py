"""Temporal perturbations: which frames are shown, in which order, and which of them black.

This module works on positions, never on pixels. So a perturbation that changes the order of the frames counts as a
change of the video, even if the video shows the same picture in every frame.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vqathinker_verl.parsing import check_choice
from vqathinker_verl.seeding import seed_from

# In the order of docs/rewards.md.
PERTURBATIONS = ("shuffle", "local_shuffle", "reverse", "jitter", "duplicate", "random_drop")

DuplicatePlace = Literal["adjacent", "random"]
DropFill = Literal["black", "mean"]


@dataclass(frozen=True)
class PerturbationConfig:
    """Which perturbations are drawn, and how strong they are; checked when made.

    Attributes:
        weights: name -> how often it is drawn, relative to the others; a name that is left out, or whose weight is 0,
            is never drawn.
        window: number of frames inside which `local_shuffle` permutes.
        max_duplicates: most repetitions of the frame that `duplicate` repeats.
        max_drops: most frames that `random_drop` sets to black.
        duplicate_place: where `duplicate` inserts the repetitions. "adjacent": next to the frame, which stutters; as
            many other frames are dropped. "random": at any place, and the frame itself may be among those dropped
            (the released code).
        drop_fill: what `random_drop` shows. "black", or "mean": the model's mean colour, a mid grey, which is zero
            after normalisation (the released code).
        redraw_identity: draw again where a perturbation leaves the video unchanged. False shows it as it is (the
            released code).
    """

    weights: Mapping[str, float] = field(default_factory=lambda: dict.fromkeys(PERTURBATIONS, 1.0))
    window: int = 4
    max_duplicates: int = 3
    max_drops: int = 3
    duplicate_place: DuplicatePlace = "adjacent"
    drop_fill: DropFill = "black"
    redraw_identity: bool = True

    def __post_init__(self) -> None:
        weights = {str(name): weight for name, weight in self.weights.items()}
        unknown = sorted(set(weights) - set(PERTURBATIONS))
        if unknown:
            raise ValueError(f"weights: unknown {', '.join(unknown)}; the perturbations are {', '.join(PERTURBATIONS)}")
        for name, weight in weights.items():
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < math.inf:
                raise ValueError(f"weights.{name}: expected a number of at least 0, got {weight!r}")
        if not any(weights.values()):
            raise ValueError("weights: at least one perturbation needs a weight above 0")
        for name, least in (("window", 2), ("max_duplicates", 1), ("max_drops", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name}: expected a whole number of at least {least}, got {value!r}")
        check_choice("duplicate_place", self.duplicate_place, DuplicatePlace)
        check_choice("drop_fill", self.drop_fill, DropFill)
        if not isinstance(self.redraw_identity, bool):
            raise ValueError(f"redraw_identity: expected true or false, got {self.redraw_identity!r}")
        # In a fixed order, so that what is drawn does not depend on the order in which the weights were written.
        ordered = {name: float(weights[name]) for name in PERTURBATIONS if name in weights}
        object.__setattr__(self, "weights", ordered)


@dataclass(frozen=True, eq=False)
class Perturbation:
    """A change of T frames in time: show `frames[indices]`, and a blank frame wherever `black`.

    Attributes:
        name: one of PERTURBATIONS.
        indices: (T,) int64, the frame shown at each position.
        black: (T,) bool, whether the frame shown there is blank: black, or what `drop_fill` says.
    """

    name: str
    indices: NDArray[np.int64]
    black: NDArray[np.bool_]


def perturbation_rng(seed: int, global_step: int, video_id: str, response: int | None = None) -> np.random.Generator:
    """Return the generator for one video in one training step, the same in every process and on every machine.

    Args:
        seed: of the run's perturbations.
        global_step: the training step.
        video_id: the video.
        response: number of the response in the video's group where each draws its own perturbation; None: one for all.
    """
    number = () if response is None else (int(response),)
    return np.random.default_rng(seed_from(int(seed), int(global_step), str(video_id), *number))


def draw_perturbation(
    num_frames: int, rng: np.random.Generator, config: PerturbationConfig | None = None
) -> Perturbation | None:
    """Draw one perturbation of a video of `num_frames` sampled frames (docs/rewards.md).

    The number of frames stays the same, and what is drawn always changes the order of the frames, repeats one or
    blanks some: a permutation that comes out as the identity is drawn again, unless `redraw_identity` is False.

    Returns:
        The perturbation; None if no perturbation can change a video this short, which is one of a single frame.

    Raises:
        ValueError: if `num_frames` is below 1.

    >>> draw_perturbation(3, np.random.default_rng(0), PerturbationConfig(weights={"reverse": 1})).indices.tolist()
    [2, 1, 0]
    """
    if num_frames < 1:
        raise ValueError(f"num_frames: expected at least 1, got {num_frames}")
    if num_frames == 1:
        return None
    config = config or PerturbationConfig()
    weights = np.array(list(config.weights.values()))
    name = list(config.weights)[int(rng.choice(len(weights), p=weights / weights.sum()))]
    while True:
        indices, black = _draw(name, num_frames, rng, config)
        if not config.redraw_identity or black.any() or (indices != np.arange(num_frames)).any():
            return Perturbation(name, indices, black)


def _draw(
    name: str, num_frames: int, rng: np.random.Generator, config: PerturbationConfig
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Draw once; the result may leave the video as it is."""
    frames = np.arange(num_frames, dtype=np.int64)
    black = np.zeros(num_frames, dtype=np.bool_)
    if name == "shuffle":
        return rng.permutation(frames), black
    if name == "local_shuffle":
        windows = [frames[begin : begin + config.window] for begin in range(0, num_frames, config.window)]
        return np.concatenate([rng.permutation(window) for window in windows]), black
    if name == "reverse":
        return frames[::-1].copy(), black
    if name == "jitter":
        return np.clip(frames + rng.integers(-1, 2, num_frames), 0, num_frames - 1), black
    if name == "duplicate":
        repeated = int(rng.integers(num_frames))
        repeats = int(rng.integers(1, min(config.max_duplicates, num_frames - 1) + 1))
        if config.duplicate_place == "random":
            return _insert_anywhere(frames, repeated, repeats, rng), black
        dropped = rng.choice(np.delete(frames, repeated), size=repeats, replace=False)
        shown = np.ones(num_frames, dtype=np.int64)
        shown[repeated] += repeats
        shown[dropped] = 0
        return np.repeat(frames, shown), black
    if name == "random_drop":
        # At least one frame stays: a video all in black would ask about nothing.
        drops = int(rng.integers(1, min(config.max_drops, num_frames - 1) + 1))
        black[rng.choice(num_frames, size=drops, replace=False)] = True
        return frames, black
    raise ValueError(f"unknown perturbation {name!r}")


def _insert_anywhere(
    frames: NDArray[np.int64], repeated: int, repeats: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Insert `repeats` copies of a frame at a random place, then drop as many of the frames that were there before."""
    place = int(rng.integers(len(frames) + 1))
    dropped = rng.choice(len(frames), size=repeats, replace=False)
    kept = ~np.isin(frames, dropped)
    before, after = frames[:place][kept[:place]], frames[place:][kept[place:]]
    return np.concatenate([before, np.full(repeats, repeated, dtype=np.int64), after])
