"""What passes between the steps of `vqathinker evaluate`."""

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
    """

    video_id: str
    video: str
    mos: float
    path: str | None = None
    other_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Benchmark:
    """A set of labelled videos whose metrics are reported together."""

    name: str
    labels: tuple[Label, ...]
