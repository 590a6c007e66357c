"""The outcome as one HTML page that needs nothing else: no script, no other file, nothing from the net.

What a model wrote is shown as text. Jinja2 escapes every value, and the page's own policy forbids scripts and anything
that is not inside it, so that a response made of HTML could do nothing even if an escape were missing.
"""

import math
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np

from vqathinker_verl.evaluation.outcome import TITLES, Outcome
from vqathinker_verl.evaluation.plots import frame_strip, scatter
from vqathinker_verl.evaluation.records import Label, Prediction
from vqathinker_verl.evaluation.results import BenchmarkResult
from vqathinker_verl.evaluation.tables import SHOWN_METRICS, p_text, paper_table, short, short_interval, short_pair
from vqathinker_verl.frames import VideoError

RESPONSES_SHOWN = 3
MAX_RESPONSE_CHARACTERS = 6000


@dataclass(frozen=True)
class Case:
    """One video to look at; `frames` is a picture's address, or `no_frames` says why there is none."""

    video_id: str
    mos: float
    pred_mos: float
    mapped: float
    error: float
    responses: tuple[str, ...]
    num_responses: int
    frames: str
    no_frames: str


@dataclass(frozen=True)
class Section:
    """What the page shows of one model on one benchmark."""

    model: str
    result: BenchmarkResult
    plot: str
    worst: list[Case]
    unscored: list[Case]


def write_html(
    outcome: Outcome, path: Path, *, num_worst: int = 6, raw_plcc: bool = False, timeout_seconds: float = 20.0
) -> None:
    """Write the page.

    Args:
        outcome: what was found.
        path: the file.
        num_worst: videos with the largest errors shown, and answers without a score, for each model and benchmark.
        raw_plcc: PLCC without the logistic fit in the table of the paper's layout.
        timeout_seconds: longest time to decode one video.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.globals.update(
        short=short, short_pair=short_pair, short_interval=short_interval, p_text=p_text, isnan=math.isnan
    )
    strips: dict[str, tuple[str, str]] = {}
    sections = [
        _section(model.name, result, num_worst, strips, timeout_seconds)
        for model in outcome.models
        for result in model.benchmarks
    ]
    template = environment.from_string(
        files("vqathinker_verl.evaluation").joinpath("report.html.jinja").read_text("utf-8")
    )
    page = template.render(
        outcome=outcome,
        paper=paper_table(outcome, raw_plcc=raw_plcc),
        sections=sections,
        num_worst=num_worst,
        metrics=SHOWN_METRICS,
        titles=TITLES,
    )
    path.write_text(page, encoding="utf-8")


def _section(
    model: str, result: BenchmarkResult, num_worst: int, strips: dict[str, tuple[str, str]], timeout_seconds: float
) -> Section:
    mapped = result.fit(result.pred) if result.fit.converged else result.pred
    order = np.argsort(-np.abs(mapped - result.mos), kind="stable")[:num_worst]

    def case(number: int, mapped_score: float) -> Case:
        label, prediction = result.benchmark.labels[number], result.predictions[number]
        assert prediction is not None
        if label.video_id not in strips:
            strips[label.video_id] = _frames(label, prediction, timeout_seconds)
        return Case(
            video_id=label.video_id,
            mos=label.mos,
            pred_mos=prediction.pred_mos,
            mapped=mapped_score,
            error=mapped_score - label.mos,
            responses=tuple(_cut(text) for text in prediction.responses[:RESPONSES_SHOWN]),
            num_responses=len(prediction.responses),
            frames=strips[label.video_id][0],
            no_frames=strips[label.video_id][1],
        )

    without = [
        number
        for number, prediction in enumerate(result.predictions)
        if prediction is not None and not prediction.scored and prediction.error is None
    ]
    return Section(
        model=model,
        result=result,
        plot=scatter(result) if len(result.pred) else "",
        worst=[case(int(result.used[number]), float(mapped[number])) for number in order],
        unscored=[case(number, math.nan) for number in without[:num_worst]],
    )


def _frames(label: Label, prediction: Prediction, timeout_seconds: float) -> tuple[str, str]:
    """The frames' picture and nothing, or nothing and the reason."""
    paths = [Path(path) for path in (label.path, prediction.path) if path]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        return "", f"no video at {paths[0]}; say --video-root" if paths else "no video known; say --video-root"
    try:
        return frame_strip(path, timeout_seconds=timeout_seconds), ""
    except VideoError as error:
        return "", str(error)


def _cut(text: str) -> str:
    if len(text) <= MAX_RESPONSE_CHARACTERS:
        return text
    return f"{text[:MAX_RESPONSE_CHARACTERS]}… ({len(text)} characters in all)"
