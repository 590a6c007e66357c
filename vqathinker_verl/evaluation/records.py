"""The records that the steps of `vqathinker evaluate` pass to each other."""

import math
from dataclasses import dataclass

from vqathinker_verl.inference.predictions import Prediction

__all__ = ["Benchmark", "EvaluationError", "Label", "Prediction"]


class EvaluationError(ValueError):
    """The evaluation cannot be made; the message names the file and row, what was expected and what to do."""


@dataclass(frozen=True)
class Label:
    """The MOS of one video.

    Attributes:
        video_id: unique over all benchmarks.
        video: path relative to the folder of the benchmark's videos; the id where labels came without paths.
        mos: mean opinion score, on the scale of the predictions.
        path: where the labels say the file is, or None.
        other_names: what the video is called in the dataset's other naming schemes.
        chain: the chain that the clip belongs to; it has no MOS (NaN) then.
        strength: of the chain's distortion.
        distortion: of the chain.
    """

    video_id: str
    video: str
    mos: float
    path: str | None = None
    other_names: tuple[str, ...] = ()
    chain: str | None = None
    strength: float = math.nan
    distortion: str = ""


@dataclass(frozen=True)
class Benchmark:
    """A set of labelled videos whose metrics are reported together."""

    name: str
    labels: tuple[Label, ...]

    @property
    def has_chains(self) -> bool:
        """Whether it is of chains of known order, which have no MOS."""
        return self.labels[0].chain is not None
