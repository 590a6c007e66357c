"""Two custom rewards: one on the length of the reasoning, one listwise; docs/custom_rewards.md explains both.

    pip install vqathinker-verl
    python examples/custom_reward.py

In training the same functions are added by their path:

    vqathinker:
      extra_rewards:
        brevity: {path: /path/to/examples/custom_reward.py, name: brevity, weight: 0.2, kwargs: {limit: 100}}
        listwise: {path: /path/to/examples/custom_reward.py, name: listwise}
"""

import numpy as np

from vqathinker_verl import ExtraReward, RewardInputs, score_batch


def brevity(batch: RewardInputs, *, limit: int = 100) -> list[float]:
    """Return 1 for reasoning of up to `limit` words, falling linearly to 0 at twice as many.

    A response without `</think>` has no reasoning that ends, so there is no verdict on it.
    """
    rewards = []
    for response in batch.responses:
        reasoning, end, _ = response.partition("</think>")
        words = len(reasoning.removeprefix("<think>").split())
        rewards.append(min(1.0, max(0.0, 2.0 - words / limit)) if end else float("nan"))
    return rewards


def listwise(batch: RewardInputs, *, temperature: float = 0.5) -> np.ndarray:
    """Return exp(-KL(P || Q)), in (0, 1], over all videos of the response's data set at once.

    P is the softmax of the videos' MOS, Q that of their mean scores, the response's own video with the response's
    score (ListNet's top-one probabilities: Cao et al., ICML 2007). 1 where all differences of scores are those of the
    MOS; a wrong order near the top costs most. No verdict without a score, or where no other video has one.
    """
    videos = batch.videos
    rewards = np.full(len(batch), np.nan)
    for row in np.flatnonzero(~np.isnan(batch.pred_mos)):
        own = batch.group_index[row]
        scores = videos.mean.copy()  # the batch's own arrays are read-only
        scores[own] = batch.pred_mos[row]
        compared = (videos.source == videos.source[own]) & ~np.isnan(scores)
        if compared.sum() > 1:
            log_p = log_softmax(videos.mos[compared] / temperature)
            log_q = log_softmax(scores[compared] / temperature)
            rewards[row] = np.exp(-np.sum(np.exp(log_p) * (log_p - log_q)))
    return rewards


def log_softmax(values: np.ndarray) -> np.ndarray:
    """Return the logarithms of softmax(values)."""
    shifted = values - values.max()
    return shifted - np.log(np.exp(shifted).sum())


# Three clips, two responses each.
MOS = {"sharp.mp4": 4.5, "fair.mp4": 3.25, "noisy.mp4": 2.0}
RESPONSES = [
    ("sharp.mp4", "<think>Crisp edges, steady colours.</think><answer>4.40</answer>"),
    ("sharp.mp4", f"<think>{'Crisp, with a little noise in the dark parts. ' * 20}</think><answer>2.90</answer>"),
    ("fair.mp4", "<think>A little soft.</think><answer>3.30</answer>"),
    ("fair.mp4", "It looks fair to me, 3.20."),
    ("noisy.mp4", "<think>Strong noise.</think><answer>2.05</answer>"),
    ("noisy.mp4", "<think>Fine detail everywhere.</think><answer>4.60</answer>"),
]


def main() -> None:
    """Print both rewards with the total that contains them, and their means as they are logged."""
    batch = score_batch(
        [response for _, response in RESPONSES],
        [MOS[clip] for clip, _ in RESPONSES],
        group_ids=[clip for clip, _ in RESPONSES],
        extra_rewards={
            "brevity": ExtraReward(brevity, weight=0.2, kwargs={"limit": 100}),
            "listwise": ExtraReward(listwise),
        },
    )
    print(f"{'clip':>10}" + "".join(f"{name:>12}" for name in ("pred_mos", *batch.extra, "total")))
    for row, (clip, _) in enumerate(RESPONSES):
        values = (batch.pred_mos[row], *(rewards[row] for rewards in batch.extra.values()), batch.total[row])
        print(f"{clip:>10}" + "".join(f"{value:12.3f}" for value in values))
    metrics = batch.metrics()
    print("\nlogged: " + ", ".join(f"reward/{name} {metrics[name]:.3f}" for name in batch.extra))


if __name__ == "__main__":
    main()
