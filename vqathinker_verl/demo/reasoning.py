"""What the reasoning says against what is true: on clips with one known distortion, as the demo's are.

Three questions: how often is the word that a response names the true one; does the score differ between responses
that name a distortion and the rest; does it follow the word of degree. Responses to one clip are alike, so intervals
come from a bootstrap over clips, which keeps a clip's responses together.
"""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vqathinker_verl.checks import FloatArray
from vqathinker_verl.demo.degradations import DISTORTION_WORDS
from vqathinker_verl.demo.model import DEGREE_WORDS
from vqathinker_verl.evaluation.records import Prediction
from vqathinker_verl.parsing import named_words, parse_answer
from vqathinker_verl.understanding.questions import QuestionError

# The word of a clip without distortion; every other word of DISTORTION_WORDS names one.
CLEAN = "pristine"


@dataclass(frozen=True)
class Named:
    """What one response names.

    Attributes:
        clip: Index of its clip.
        truth: The clip's distortion.
        named: The distortion whose word the reasoning names, "pristine" for that of a clean clip; None where it names
            no such word, or several.
        several: Whether it names several.
        degree: The word of degree that it names, None for none or several.
        score: The predicted MOS; NaN for none.
    """

    clip: int
    truth: str
    named: str | None
    several: bool
    degree: str | None
    score: float


@dataclass(frozen=True)
class Estimate:
    """A metric over the responses with its bootstrap interval; NaN for what does not exist."""

    value: float
    low: float
    high: float

    def as_json(self) -> dict[str, float | None]:
        """The three numbers, null for NaN."""
        return {name: None if math.isnan(value) else value for name, value in vars(self).items()}


def read_truth(path: Path) -> dict[str, str]:
    """The distortion of each clip, by its file's name, from the demo's labels (columns `video`, `distortion`).

    Raises:
        QuestionError: The file cannot be read, or a row is not of its form.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise QuestionError(f"{path}: cannot be read ({error.strerror})") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise QuestionError(f"{path}: cannot be read as CSV ({error})") from error
    truth: dict[str, str] = {}
    for number, row in enumerate(rows, start=2):
        video, distortion = row.get("video"), row.get("distortion")
        if not video or distortion not in DISTORTION_WORDS:
            known = ", ".join(DISTORTION_WORDS)
            raise QuestionError(f"{path}: line {number}: expected video and distortion, one of {known}; got {row}")
        if Path(video).name in truth:
            raise QuestionError(f"{path}: line {number}: a second clip named {Path(video).name}")
        truth[Path(video).name] = distortion
    if not truth:
        raise QuestionError(f"{path}: no labels in the file")
    return truth


def read_reasoning(predictions: Sequence[Prediction], truth: Mapping[str, str]) -> tuple[list[Named], list[str]]:
    """What each response names and scores, and the videos that have no label.

    Predictions and labels are joined by the name of the video's file, since runs put folders before it.
    """
    named, unknown = [], []
    for clip, prediction in enumerate(predictions):
        distortion = truth.get(Path(prediction.video_id).name)
        if distortion is None:
            unknown.append(f"{prediction.where}: no label for {prediction.video_id}")
            continue
        named += [_named(clip, distortion, response) for response in prediction.responses]
    return named, unknown


def _named(clip: int, truth: str, response: str) -> Named:
    words = named_words(response, DISTORTION_WORDS.values())
    kinds = [kind for kind, word in DISTORTION_WORDS.items() if word in words]
    degrees = named_words(response, DEGREE_WORDS)
    return Named(
        clip=clip,
        truth=truth,
        named=kinds[0] if len(kinds) == 1 else None,
        several=len(kinds) > 1,
        degree=next(iter(degrees)) if len(degrees) == 1 else None,
        score=parse_answer(response).score,
    )


def findings(responses: Sequence[Named], *, num_resamples: int = 1000, seed: int = 0) -> dict[str, Estimate]:
    """The metrics that hold the reasoning against the truth, all but those of chance with 95% intervals.

    Returns:
        names_one, names_several: share of responses that name one word, and several.
        named_right: share of all responses that name the true word, and no other; none at all is wrong.
        named_right_chance: the same share if the words were dealt out among the clips blindly: the sum over the
            words of (share of responses naming it) x (share of responses about clips where it is true).
        distortion_right: of the responses that name a distortion (no "sharp"), the share where it is the true one.
        distortion_right_chance: likewise, blindly.
        score_named, score_rest: mean score of the responses that name a distortion, and of the rest.
        score_difference: the first less the second.
        score_slightly, score_clearly, score_very: mean score of the responses with that word of degree.
    """
    if not responses:
        raise QuestionError("no response to a labelled clip")
    clips = np.unique([response.clip for response in responses], return_inverse=True)[1]
    columns = _columns(responses)
    per_clip = {name: np.bincount(clips, weights=column).astype(float) for name, column in columns.items()}
    num_clips = int(clips.max()) + 1
    values = _metrics({name: column.sum(keepdims=True) for name, column in per_clip.items()})
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(num_clips, np.full(num_clips, 1 / num_clips), size=num_resamples)
    draws = _metrics({name: counts @ column for name, column in per_clip.items()})
    return {
        name: Estimate(float(value[0]), *((math.nan, math.nan) if name.endswith("_chance") else _bounds(draws[name])))
        for name, value in values.items()
    }


def _columns(responses: Sequence[Named]) -> dict[str, FloatArray]:
    """Per response, (N,) each: what the metrics are sums of."""
    score = np.array([response.score for response in responses])
    has_score = ~np.isnan(score)
    filled = np.where(has_score, score, 0.0)
    distortion = np.array([response.named not in (None, CLEAN) for response in responses])
    right = np.array([response.named == response.truth for response in responses])
    columns: dict[str, FloatArray] = {
        "all": np.ones(len(responses)),
        "one": np.array([float(response.named is not None) for response in responses]),
        "several": np.array([float(response.several) for response in responses]),
        "right": right.astype(float),
        "distortion": distortion.astype(float),
        "distortion right": (distortion & right).astype(float),
    }
    for kind in DISTORTION_WORDS:
        columns[f"named {kind}"] = np.array([float(response.named == kind) for response in responses])
        columns[f"true {kind}"] = np.array([float(response.truth == kind) for response in responses])
    groups = {"named": distortion, "rest": ~distortion}
    groups |= {degree: np.array([response.degree == degree for response in responses]) for degree in DEGREE_WORDS}
    for group, members in groups.items():
        columns[f"scores {group}"] = (members & has_score).astype(float)
        columns[f"score {group}"] = filled * members
    return columns


def _metrics(sums: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """The metrics from sums over responses, (B,) each."""
    with np.errstate(invalid="ignore", divide="ignore"):
        blindly = {kind: sums[f"named {kind}"] * sums[f"true {kind}"] / sums["all"] for kind in DISTORTION_WORDS}
        chance = sum(blindly.values(), np.zeros_like(sums["all"]))
        scores = {group: sums[f"score {group}"] / sums[f"scores {group}"] for group in ("named", "rest", *DEGREE_WORDS)}
        return {
            "names_one": sums["one"] / sums["all"],
            "names_several": sums["several"] / sums["all"],
            "named_right": sums["right"] / sums["all"],
            "named_right_chance": chance / sums["all"],
            "distortion_right": sums["distortion right"] / sums["distortion"],
            "distortion_right_chance": (chance - blindly[CLEAN]) / sums["distortion"],
            "score_named": scores["named"],
            "score_rest": scores["rest"],
            "score_difference": scores["named"] - scores["rest"],
            **{f"score_{degree}": scores[degree] for degree in DEGREE_WORDS},
        }


def _bounds(draws: FloatArray) -> tuple[float, float]:
    """95% of the resamples that have the metric."""
    values = draws[~np.isnan(draws)]
    if not len(values):
        return math.nan, math.nan
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def words_table(responses: Sequence[Named]) -> list[dict[str, float | str | None]]:
    """One row a distortion: clips' responses where it is true, those that name it, how many of both, their mean score.

    `right` is among `named`; `mean_score` is of the responses that name it, None without a score.
    """
    rows: list[dict[str, float | str | None]] = []
    for kind, word in DISTORTION_WORDS.items():
        naming = [response for response in responses if response.named == kind]
        scores = [response.score for response in naming if not math.isnan(response.score)]
        rows.append(
            {
                "distortion": kind,
                "word": word,
                "true": sum(response.truth == kind for response in responses),
                "named": len(naming),
                "right": sum(response.truth == kind for response in naming),
                "mean_score": sum(scores) / len(scores) if scores else None,
            }
        )
    return rows
