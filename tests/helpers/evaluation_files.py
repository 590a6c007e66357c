"""Small predictions and labels for the tests of `vqathinker evaluate`."""

import csv
import json

import numpy as np

from vqathinker_verl.cli.main import main
from vqathinker_verl.evaluation.records import Benchmark, Label, Prediction


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_labels(path, mos):
    """A CSV of labels on the scale 1 to 5; `mos` is {video: MOS}."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["video", "mos"])
        writer.writerows(mos.items())
    return path


def benchmark(mos, name="made"):
    return Benchmark(name, tuple(Label(f"{name}/{k:03}.mp4", f"{k:03}.mp4", float(m)) for k, m in enumerate(mos)))


def predictions(scores, name="made"):
    """NaN: no score; None: no prediction."""
    return [
        None if score is None else Prediction(f"p:{k}", f"{name}/{k:03}.mp4", float(score))
        for k, score in enumerate(scores)
    ]


def noisy(num_videos, noise=0.5, seed=0):
    """MOS and predictions that follow them."""
    rng = np.random.default_rng(seed)
    mos = rng.uniform(1, 5, num_videos)
    return mos, np.round(np.clip(mos + rng.normal(0, noise, num_videos), 1, 5), 2)


def evaluate_cli(*arguments):
    return main(["evaluate", *map(str, arguments)])
