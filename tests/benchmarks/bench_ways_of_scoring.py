"""What each way of scoring is worth: SRCC, ties, repeatability and time per video, in one run.

    python tests/benchmarks/bench_ways_of_scoring.py --model outputs/model --labels outputs/demo/val.parquet

Each way scores all videos twice, with two seeds. SRCC (with its bootstrap interval) is the mean of both runs'; ties are
pairs of videos with equal scores, of the first run; repeatability is the standard deviation of one run's score, from
the difference of both, in units of the scale from 1 to 5. Time is the median of both runs' seconds per video, the model
loaded.
Docs: docs/scoring.md.
"""

import argparse
import time
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet

from vqathinker_verl import VideoScorer, evaluate_predictions

WAYS: dict[str, dict[str, Any]] = {
    "greedy": {"scoring": "greedy", "num_samples": 1},
    "mean of 8": {"scoring": "mean", "num_samples": 8},
    "mean of 32": {"scoring": "mean", "num_samples": 32},
    "expectation": {"scoring": "expectation", "num_samples": 1},
}
SEEDS = (0, 1)


@dataclass(frozen=True)
class Row:
    """One way's results."""

    way: str
    srcc: float
    low: float
    high: float
    ties: int
    pairs: int
    deviation: float
    seconds: float
    unscored: int


def measure(way: str, model: str, engine: str, videos: list[str], mos: np.ndarray) -> Row:
    runs, seconds, intervals = [], [], []
    for seed in SEEDS:
        with VideoScorer(model, engine=engine, seed=seed, progress=False, **WAYS[way]) as scorer:
            scorer(videos[0])  # what is loaded or compiled on first use is not counted
            begin = time.perf_counter()
            runs.append(np.array([one.pred_mos for one in scorer.score(videos)]))
            seconds.append((time.perf_counter() - begin) / len(videos))
    scored = np.isfinite(runs).all(axis=0)
    for run in runs:
        intervals.append(evaluate_predictions(run[scored], mos[scored]))
    first = [score for score in runs[0] if np.isfinite(score)]
    pairs = list(combinations(first, 2))
    return Row(
        way,
        *(float(np.mean([found[name] for found in intervals])) for name in ("srcc", "srcc_low", "srcc_high")),
        ties=sum(a == b for a, b in pairs),
        pairs=len(pairs),
        deviation=float(np.sqrt(np.mean((runs[0][scored] - runs[1][scored]) ** 2) / 2)),
        seconds=float(np.median(seconds)),
        unscored=int((~scored).sum()),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--labels", type=Path, required=True, help="parquet of `vqathinker prepare`")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    args = parser.parse_args()
    rows = pyarrow.parquet.read_table(args.labels).to_pylist()
    videos = [row["videos"][0]["video"] if isinstance(row["videos"][0], dict) else row["videos"][0] for row in rows]
    mos = np.array([row["reward_model"]["ground_truth"] for row in rows])
    found = [measure(way, args.model, args.engine, videos, mos) for way in args.ways]
    print(f"{len(videos)} videos, engine {args.engine}, seeds {', '.join(map(str, SEEDS))}")
    print("| way | SRCC [95%] | tied pairs | repeatability | s per video | no score |\n|---|---|---|---|---|---|")
    for row in found:
        print(
            f"| {row.way} | {row.srcc:.3f} [{row.low:.3f}, {row.high:.3f}] | {row.ties} of {row.pairs} "
            f"({100 * row.ties / row.pairs:.1f}%) | {row.deviation:.3f} | {row.seconds:.2f} | {row.unscored} |"
        )


if __name__ == "__main__":
    main()
