"""How much faster `ranking_reward` is than loops over the pairs.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_ranking.py

Times three ways to the same numbers, in one run: `ranking_reward`; a double loop in plain Python; and a loop over the
pairs that works on torch scalars, with a normal distribution made for each pair, as released code does. The numbers
are compared before anything is printed. The torch loop is timed on as many responses as fit into 20 seconds, and
scaled by the pairs; the share that was run is printed.
"""

import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch

from vqathinker_verl import ranking_reward

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from helpers.plain_ranking import plain_ranking_reward

GROUP_SIZE = 8
EPS = 1e-6


def torch_loop(scores: torch.Tensor, mos: torch.Tensor, group_size: int, budget_seconds: float) -> list[float]:
    """Return the rewards of the first responses, group after group, until the time is used up."""
    groups = scores.reshape(-1, group_size)
    means, variances = groups.mean(dim=1), groups.var(dim=1)
    rewards, begin = [], time.perf_counter()
    for row in range(len(scores)):
        video = row // group_size
        total = torch.tensor(0.0)
        for other in range(len(groups)):
            if other == video:
                continue
            normal = torch.distributions.Normal(0, 1)
            prob = normal.cdf((scores[row] - means[other]) / torch.sqrt(variances[video] + variances[other] + EPS))
            gap = mos[video] - mos[other]
            truth = torch.tensor(1.0 if gap > 0 else 0.0 if gap < 0 else 0.5)
            total = total + torch.sqrt(prob * truth + EPS) + torch.sqrt((1 - prob) * (1 - truth) + EPS)
        rewards.append((total / (len(groups) - 1)).item())
        if time.perf_counter() - begin > budget_seconds:
            break
    return rewards


def measure(num_videos: int) -> dict[str, float]:
    """Time the three ways on one random batch, after checking that they agree."""
    rng = np.random.default_rng(num_videos)
    video_mos = rng.uniform(1, 5, num_videos).round(2)
    index = np.repeat(np.arange(num_videos), GROUP_SIZE)
    mos = video_mos[index]
    scores = np.clip(mos + rng.normal(0, 0.5, len(mos)), 1, 5).round(2)
    ids = [f"video {number}" for number in index]

    def seconds_of_ranking() -> float:
        begin = time.perf_counter()
        ranking_reward(scores, mos, ids)
        return time.perf_counter() - begin

    rewards = ranking_reward(scores, mos, ids)
    vectorised = statistics.median(seconds_of_ranking() for _ in range(9))

    begin = time.perf_counter()
    plain = plain_ranking_reward(scores.tolist(), mos.tolist(), ids)
    python_seconds = time.perf_counter() - begin
    np.testing.assert_allclose(rewards, plain, atol=1e-9)

    torch_scores, torch_mos = torch.tensor(scores, dtype=torch.float32), torch.tensor(video_mos, dtype=torch.float32)
    torch_loop(torch_scores[: 2 * GROUP_SIZE], torch_mos[:2], GROUP_SIZE, 1.0)  # torch's first calls are slow
    begin = time.perf_counter()
    looped = torch_loop(torch_scores, torch_mos, GROUP_SIZE, budget_seconds=20.0)
    torch_seconds = time.perf_counter() - begin
    np.testing.assert_allclose(rewards[: len(looped)], looped, atol=1e-4)  # float32

    share = len(looped) / len(scores)
    return {"vectorised": vectorised, "python": python_seconds, "torch": torch_seconds / share, "torch_share": share}


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    columns = ("videos x 8", "ranking_reward", "Python loop", "ratio", "torch loop", "ratio", "run")
    print("{:>10} {:>15} {:>12} {:>7} {:>12} {:>9} {:>5}".format(*columns))
    for num_videos in (2, 32, 128, 512):
        row = measure(num_videos)
        print(
            f"{num_videos:>10} {1e3 * row['vectorised']:>12.2f} ms {row['python']:>10.3f} s "
            f"{row['python'] / row['vectorised']:>7.1f} {row['torch']:>10.2f} s "
            f"{row['torch'] / row['vectorised']:>9.0f} {row['torch_share']:>5.0%}"
        )


if __name__ == "__main__":
    main()
