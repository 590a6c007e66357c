"""What a model said about one video: one record, and the line of a predictions file that it is kept as.

A predictions file is JSONL, one line per video, as its answer comes in:

    {"video_id": "a.mp4", "video": "clips/a.mp4", "pred_mos": 3.42, "response": "<think>…", "frames": 12, "error": null}

`pred_mos` is null where the response gives no score, `response` is null where `error` says why there is none. With K
samples `responses` and `samples` hold all texts and scores (null: none), `pred_mos` is the mean of the scores,
`pred_mos_std` their standard deviation (null below two), and `response` the first text. With the expectation
`pred_mos` and `pred_mos_std` are mean and standard deviation of the score's distribution, and `legal_mass` is the
probability that the model writes a number of the form asked for at all. With a calibration `pred_mos` and
`pred_mos_std` are calibrated, and `pred_mos_raw` is the score before it; `samples` stay as the model gave them.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vqathinker_verl.parsing import parse_answer

if TYPE_CHECKING:
    from vqathinker_verl.inference.engines import Answer, AnswerForm


@dataclass(frozen=True)
class Prediction:
    """What a model said about one video.

    Attributes:
        where: File and row, or the model, for messages.
        video_id: The video, as the file or the caller names it.
        pred_mos: Its score in [1, 5], NaN where no response had one; of several the mean over those with one.
        responses: The responses' texts, none where there are none.
        error: Why there is no response at all, or None.
        benchmark: The benchmark it belongs to, where the file says so.
        path: Where the video is, or None.
        mos: The label that the file carries itself, or None.
        samples: The score of each of several responses, NaN for none; None for one response, whose score is `pred_mos`.
        pred_mos_std: Standard deviation of the scores, or of the distribution of the expectation; NaN where unknown.
        num_frames: Frames shown, or None.
        legal_mass: With the expectation: probability that a number of the form asked for is written; else None.
        pred_mos_raw: The score before the calibration, NaN where there is none; None where nothing was calibrated.
    """

    where: str
    video_id: str
    pred_mos: float
    responses: tuple[str, ...] = ()
    error: str | None = None
    benchmark: str | None = None
    path: str | None = None
    mos: float | None = None
    samples: tuple[float, ...] | None = None
    pred_mos_std: float = math.nan
    num_frames: int | None = None
    legal_mass: float | None = None
    pred_mos_raw: float | None = None

    @property
    def score(self) -> float:
        """The score, as `pred_mos`."""
        return self.pred_mos

    @property
    def spread(self) -> float:
        """The standard deviation, as `pred_mos_std`."""
        return self.pred_mos_std

    @property
    def response(self) -> str | None:
        """The first response, None where there is none."""
        return self.responses[0] if self.responses else None

    @property
    def answers(self) -> tuple[int, int]:
        """Number of responses, and of those without a score."""
        if self.samples is None:
            return 1, int(not self.scored)
        return len(self.samples), sum(math.isnan(score) for score in self.samples)

    @property
    def scored(self) -> bool:
        """Whether there is a score."""
        return not math.isnan(self.pred_mos)

    def as_json(self) -> dict[str, Any]:
        """The line of a predictions file."""
        line: dict[str, Any] = {
            "video_id": self.video_id,
            "video": self.path,
            "pred_mos": _or_null(self.pred_mos),
            "response": self.response,
            "frames": self.num_frames,
            "error": self.error,
        }
        if self.samples is not None:
            line["samples"] = [_or_null(score) for score in self.samples]
            line["responses"] = list(self.responses)
        if self.samples is not None or self.legal_mass is not None:
            line["pred_mos_std"] = _or_null(self.pred_mos_std)
        if self.legal_mass is not None:
            line["legal_mass"] = self.legal_mass
        if self.pred_mos_raw is not None:
            line["pred_mos_raw"] = _or_null(self.pred_mos_raw)
        return line

    @classmethod
    def from_json(cls, line: dict[str, Any], where: str = "") -> "Prediction":
        """What `as_json` wrote; files of others are read and checked by `evaluation.predictions`."""
        samples, response = line.get("samples"), line.get("response")
        return cls(
            where=where,
            video_id=line["video_id"],
            pred_mos=_or_nan(line["pred_mos"]),
            responses=tuple(line.get("responses") or ([response] if response is not None else [])),
            error=line.get("error"),
            path=line.get("video"),
            samples=None if samples is None else tuple(_or_nan(score) for score in samples),
            pred_mos_std=_or_nan(line.get("pred_mos_std")),
            num_frames=line.get("frames"),
            legal_mass=line.get("legal_mass"),
            pred_mos_raw=_or_nan(line["pred_mos_raw"]) if "pred_mos_raw" in line else None,
        )


def predicted(
    video_id: str,
    path: str | None,
    answer: "Answer",
    *,
    num_frames: int,
    num_samples: int,
    expectation: bool = False,
    form: "AnswerForm | None" = None,
) -> Prediction:
    """Return the prediction that an answer of an engine makes.

    Args:
        video_id: What to call the video.
        path: Where it is.
        answer: What the model said.
        num_frames: Frames shown.
        num_samples: Responses asked for.
        expectation: Whether the score is that of the answer's distribution; NaN where the response has no `<answer>`.
        form: How a response gives its score; None: a number in [1, 5] in `<answer> </answer>`.
    """
    read = form.score if form is not None else lambda response: parse_answer(response).score
    scores = [read(response) for response in answer.responses]
    known = [score for score in scores if not math.isnan(score)]
    mean = float(np.mean(known)) if known else math.nan
    std = float(np.std(known, ddof=1)) if len(known) > 1 else math.nan
    found = answer.distribution
    if expectation:
        mean, std = (found.mean, found.std) if found is not None else (math.nan, math.nan)
    return Prediction(
        where=video_id,
        video_id=video_id,
        pred_mos=mean,
        responses=answer.responses,
        error=answer.error,
        path=path,
        samples=tuple(scores) if num_samples > 1 else None,
        pred_mos_std=std,
        num_frames=num_frames,
        legal_mass=found.legal_mass if expectation and found is not None else None,
    )


def _or_null(value: float) -> float | None:
    return None if math.isnan(value) else value


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else float(value)
