"""Predictions made on the spot: a model is asked about every labelled video."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from vqathinker_verl.evaluation.predictions import prediction_of
from vqathinker_verl.evaluation.records import Benchmark, EvaluationError, Prediction
from vqathinker_verl.inference.engines import open_engine
from vqathinker_verl.inference.options import asking_from, generation_settings
from vqathinker_verl.inference.quiet import quiet_libraries
from vqathinker_verl.inference.scoring import PredictionsFile, check_videos, score_videos

PREDICTIONS = "predictions.jsonl"


def ask_model(args: argparse.Namespace, benchmarks: Sequence[Benchmark]) -> list[Prediction]:
    """Score the videos of all benchmarks as `vqathinker score` does, shown as validation shows them.

    With `--output` the predictions go to predictions.jsonl there, and a second call goes on where the first stopped.

    Raises:
        EvaluationError: A label does not say where its video is.
        ValueError: An option is wrong, or the predictions there were made with other settings.
        EngineError: The model cannot be loaded, or stops answering.
    """
    from tqdm import tqdm

    videos = {}
    for benchmark in benchmarks:
        for label in benchmark.labels:
            if label.path is None:
                raise EvaluationError(f"{label.video_id}: the labels do not say where the video is; pass --video-root")
            videos[label.video_id] = Path(label.path)
    quiet_libraries()
    check_videos(videos.values())
    asking = asking_from(args)
    kept = PredictionsFile(args.output / PREDICTIONS, generation_settings(args.model, asking)) if args.output else None
    rows = [row for video_id, row in kept.done.items() if video_id in videos] if kept else []
    done = {row["video_id"] for row in rows}
    missing = {video_id: path for video_id, path in videos.items() if video_id not in done}
    if missing:
        engine = open_engine(args.model, **asking.settings)
        lines = score_videos(missing, engine, prompt=asking.prompt, samples=asking.samples)
        with tqdm(total=len(videos), initial=len(done), unit="video", file=sys.stderr, disable=None) as bar:
            for row in kept.add(lines) if kept else lines:
                rows.append(row)
                bar.update()
    return [prediction_of(args.model, row, None) for row in rows]
