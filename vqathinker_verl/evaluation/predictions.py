"""Prediction files in, `Prediction`s out: what `vqathinker score` writes, verl's validation dumps, any CSV."""

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vqathinker_verl.data.records import LabelError
from vqathinker_verl.data.tables import read_lines, read_rows
from vqathinker_verl.evaluation.records import EvaluationError, Prediction

TABLE_SUFFIXES = (".csv", ".tsv")
# A table's cells that say "no score", beside the empty one.
NO_SCORE = frozenset({"", "nan", "none", "null"})

Row = Mapping[str, Any]


def read_predictions(path: Path, benchmark: str | None = None) -> list[Prediction]:
    """Read one file of predictions.

    Three forms are known: JSON lines with `video_id` and `pred_mos` (`vqathinker score`), a CSV or TSV with these
    columns, and verl's validation dump (its rows have a `uid`), in which several answers about one video are averaged
    over those that have a score, as verl's validation metrics of a run do. `mos` may stand beside `pred_mos`.

    Args:
        path: The file.
        benchmark: The benchmark that all its predictions belong to; None: as the rows say, or found by the video's id.

    Raises:
        EvaluationError: The file cannot be read, a row is not of its form, or two rows are about one video.
    """
    rows = _table_rows(path) if path.suffix.lower() in TABLE_SUFFIXES else _json_rows(path)
    if not rows:
        raise EvaluationError(f"{path}: no predictions in the file")
    is_dump = "uid" in rows[0][1]
    predictions = _of_dump(rows, benchmark) if is_dump else [prediction_of(*row, benchmark) for row in rows]
    first: dict[tuple[str | None, str], str] = {}
    for prediction in predictions:
        key = (prediction.benchmark, prediction.video_id)
        if key in first:
            raise EvaluationError(
                f"{prediction.where}: {prediction.video_id} has a prediction already ({first[key]}); "
                "expected one a video: remove one of them"
            )
        first[key] = prediction.where
    return predictions


def _json_rows(path: Path) -> list[tuple[str, Row]]:
    rows = []
    try:
        for number, line in enumerate(read_lines(path), start=1):
            if not line.strip():
                continue
            where = f"{path.name}: line {number}"
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise EvaluationError(f"{where}: expected a JSON object ({error}); was the file cut off?") from error
            if not isinstance(row, Mapping):
                raise EvaluationError(f"{where}: expected a JSON object, got {type(row).__name__}")
            rows.append((where, row))
    except LabelError as error:
        raise EvaluationError(str(error)) from error
    return rows


def _table_rows(path: Path) -> list[tuple[str, Row]]:
    try:
        rows = read_rows(path)
    except LabelError as error:
        raise EvaluationError(str(error)) from error
    for column in ("video_id", "pred_mos"):
        if rows and column not in rows[0][1]:
            columns = ", ".join(rows[0][1])
            raise EvaluationError(f"{path}: no column {column!r}; expected video_id and pred_mos, got {columns}")
    return [(where, {key: _cell(key, value) for key, value in row.items()}) for where, row in rows]


def _cell(column: str, text: str) -> str | float | None:
    """A table's cell; only the numbers' columns are read as numbers, and a wrong one stays text to be named later."""
    if column in ("pred_mos", "mos", "pred_mos_raw"):
        if text.lower() in NO_SCORE:
            return None
        try:
            return float(text)
        except ValueError:
            return text
    return text or None


def prediction_of(where: str, row: Row, benchmark: str | None) -> Prediction:
    """Return one row as a prediction; arguments and errors as of `read_predictions`."""
    video_id = row.get("video_id")
    if not isinstance(video_id, str) or not video_id:
        raise EvaluationError(f"{where}: video_id: expected the video's name, got {video_id!r}")
    if "pred_mos" not in row:
        raise EvaluationError(f"{where}: no pred_mos; expected a number, or null where there is no score")
    error = row.get("error")
    return Prediction(
        where=where,
        video_id=video_id,
        pred_mos=_number(where, "pred_mos", row["pred_mos"]),
        responses=_texts(where, row),
        error=None if error is None else str(error),
        benchmark=benchmark or row.get("data_source"),
        path=row.get("video"),
        mos=_mos(where, row.get("mos")),
        samples=_samples(where, row.get("samples")),
        pred_mos_raw=_number(where, "pred_mos_raw", row["pred_mos_raw"]) if "pred_mos_raw" in row else None,
    )


def _samples(where: str, samples: Any) -> tuple[float, ...] | None:
    """The score of each of several sampled responses."""
    if samples is None:
        return None
    if not isinstance(samples, Sequence) or isinstance(samples, str):
        raise EvaluationError(f"{where}: samples: expected a list of scores, got {samples!r}")
    return tuple(_number(where, "samples", score) for score in samples)


def _texts(where: str, row: Row) -> tuple[str, ...]:
    texts = row.get("responses") or ([row["response"]] if row.get("response") is not None else [])
    if not isinstance(texts, Sequence) or not all(isinstance(text, str) for text in texts):
        raise EvaluationError(f"{where}: response: expected text, got {texts!r}")
    return tuple(texts)


def _number(where: str, field: str, value: Any) -> float:
    """A score; NaN for null. Infinity and text are faults of the file, no missing scores."""
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isinf(value):
        raise EvaluationError(f"{where}: {field}: expected a finite number, or null for no score, got {value!r}")
    return float(value)


def _mos(where: str, value: Any) -> float | None:
    if value is None:
        return None
    mos = _number(where, "mos", value)
    if math.isnan(mos):
        raise EvaluationError(f"{where}: mos: expected a finite number, got {value!r}")
    return mos


def _of_dump(rows: Iterable[tuple[str, Row]], benchmark: str | None) -> list[Prediction]:
    """One prediction for each prompt of verl's dump. A row is one answer; its uid is the prompt's and a suffix."""
    prompts: dict[str, list[tuple[str, Row]]] = defaultdict(list)
    for where, row in rows:
        uid = row.get("uid")
        if not isinstance(uid, str) or not uid:
            raise EvaluationError(f"{where}: uid: expected the prompt's id, got {uid!r}")
        if "pred_mos" not in row or "mos" not in row:
            raise EvaluationError(
                f"{where}: expected pred_mos and mos in verl's validation dump; was the run trained with the "
                "configuration pkg://vqathinker_verl.config?"
            )
        prompts[uid.split("_", 1)[0]].append((where, row))
    return [_of_prompt(prompt, answers, benchmark) for prompt, answers in prompts.items()]


def _of_prompt(prompt: str, answers: list[tuple[str, Row]], benchmark: str | None) -> Prediction:
    where, first = answers[0]
    for other, row in answers:
        for field in ("video_id", "mos", "data_source"):
            if row.get(field) != first.get(field):
                raise EvaluationError(
                    f"{other}: {field} {row.get(field)!r}; expected {first.get(field)!r} as in {where}, which has the "
                    "same prompt by its uid"
                )
    scores = [_number(place, "pred_mos", row["pred_mos"]) for place, row in answers]
    scored = [score for score in scores if not math.isnan(score)]
    return Prediction(
        where=where,
        # Before a run named the video in its dump, the prompt's id was all there was.
        video_id=first.get("video_id") or prompt,
        pred_mos=sum(scored) / len(scored) if scored else math.nan,
        responses=tuple(str(row.get("output", "")) for _, row in answers),
        benchmark=benchmark or first.get("data_source"),
        mos=_mos(where, first["mos"]),
        samples=tuple(scores),
    )
