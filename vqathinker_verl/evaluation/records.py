"""What passes between the steps of `vqathinker evaluate`."""

import math
from dataclasses import dataclass


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
    """A set of labelled videos whose figures are reported together."""

    name: str
    labels: tuple[Label, ...]


@dataclass(frozen=True)
class Prediction:
    """What a model said about one video.

    Attributes:
        where: file and row, for messages.
        video_id: the video, as the file names it.
        pred_mos: its score, NaN where no answer had one; the mean of the scored ones of several answers.
        responses: the answers' texts, none where the file has none.
        error: why there is no answer at all, or None.
        benchmark: the benchmark it belongs to, where the file says so.
        path: where the file says the video is, or None.
        mos: the label that the file carries itself, or None.
        counts: number of answers, and of those without a score; None: one answer, whose score is `pred_mos`.
    """

    where: str
    video_id: str
    pred_mos: float
    responses: tuple[str, ...] = ()
    error: str | None = None
    benchmark: str | None = None
    path: str | None = None
    mos: float | None = None
    counts: tuple[int, int] | None = None

    @property
    def answers(self) -> tuple[int, int]:
        """Number of answers, and of those without a score."""
        return self.counts or (1, int(not self.scored))

    @property
    def scored(self) -> bool:
        """Whether there is a score."""
        return not math.isnan(self.pred_mos)
