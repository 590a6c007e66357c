"""Predictions made on the spot: a model is asked about every labelled video."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from vqathinker_verl.evaluation.predictions import prediction_of
from vqathinker_verl.evaluation.records import Benchmark, EvaluationError, Prediction
from vqathinker_verl.inference.answers_file import AnswersFile
from vqathinker_verl.inference.asking import answer_missing, prediction_row
from vqathinker_verl.inference.engines import Request
from vqathinker_verl.inference.scoring import check_videos
from vqathinker_verl.inference.settings import AskingSettings

PREDICTIONS = "predictions.jsonl"


def labelled_videos(benchmarks: Sequence[Benchmark]) -> dict[str, Path]:
    """Return the videos of all benchmarks by video_id, after a look at the first that can be opened.

    Raises:
        EvaluationError: A label does not say where its video is.
        ScoringError: None of the videos can be opened.
    """
    videos = {}
    for benchmark in benchmarks:
        for label in benchmark.labels:
            if label.path is None:
                raise EvaluationError(f"{label.video_id}: the labels do not say where the video is; pass --video-root")
            videos[label.video_id] = Path(label.path)
    check_videos(videos.values())
    return videos


def ask_model(settings: AskingSettings, videos: Mapping[str, Path], folder: Path | None) -> list[Prediction]:
    """Score videos as `vqathinker score` does, shown as validation shows them.

    Args:
        settings: How the model is run and asked.
        videos: Video files by video_id.
        folder: Where predictions.jsonl is kept, which a second call resumes; None keeps nothing.

    Raises:
        ValueError: An option is wrong, or the predictions there were made with other settings.
        EngineError: The model cannot be loaded, or stops answering.
    """
    requests = {video_id: Request(video, settings.prompt) for video_id, video in videos.items()}
    output = AnswersFile(folder / PREDICTIONS, settings.as_json()) if folder is not None else None
    rows = answer_missing(requests, settings, prediction_row(settings, requests), output=output)
    return [prediction_of(settings.model, row, None) for row in rows]
