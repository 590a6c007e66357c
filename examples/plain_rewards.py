"""The rewards on a list of answers: no trainer, nothing but NumPy and SciPy.

pip install vqathinker-verl
python examples/plain_rewards.py
"""

from vqathinker_verl import RewardConfig, evaluate_predictions, score_batch

# Two clips, three responses each; the second clip's frames were also shown shuffled.
MOS = {"sharp.mp4": 4.5, "noisy.mp4": 2.25}
RESPONSES = [
    ("sharp.mp4", "<think>Crisp edges, steady colours.</think><answer>4.40</answer>"),
    ("sharp.mp4", "<think>Crisp, with a little noise.</think><answer>3.9</answer>"),
    ("sharp.mp4", "It looks good to me, 4.50."),
    ("noisy.mp4", "<think>Strong noise.</think><answer>2.30</answer>"),
    ("noisy.mp4", "<think>Noise, and it flickers.</think>\n<answer>2.05</answer>"),
    ("noisy.mp4", "<think>Fine detail.</think><answer>4.10</answer>"),
]
SHUFFLED = [
    ("noisy.mp4", "<think>It jumps.</think><answer>1.10</answer>"),
    ("noisy.mp4", "<think>Fine detail.</think><answer>4.10</answer>"),
]


def main() -> None:
    """Print the rewards of each response, what to log of the batch, and how good the mean scores are."""
    batch = score_batch(
        [response for _, response in RESPONSES],
        [MOS[clip] for clip, _ in RESPONSES],
        group_ids=[clip for clip, _ in RESPONSES],
        perturbed_responses=[response for _, response in SHUFFLED],
        perturbed_group_ids=[clip for clip, _ in SHUFFLED],
        config=RewardConfig(sigma=0.5),
    )
    columns = ("pred_mos", "regression", "ranking", "temporal", "format", "total")
    print(f"{'clip':>10}" + "".join(f"{name:>12}" for name in columns))
    for row, (clip, _) in enumerate(RESPONSES):
        print(f"{clip:>10}" + "".join(f"{getattr(batch, name)[row]:12.3f}" for name in columns))

    print("\nto log:")
    for name, value in batch.metrics().items():
        print(f"{name:>20} {value:.3f}")

    # Scores of six videos, one without an answer, against their MOS.
    result = evaluate_predictions(
        [4.4, 2.3, float("nan"), 3.2, 1.4, 3.6], [4.5, 2.2, 3.0, 3.4, 1.2, 4.0], num_resamples=200
    )
    print("\nevaluation:")
    for name in ("srcc", "plcc_raw", "krcc", "rmse_raw"):
        print(f"{name:>20} {result[name]:.3f} [{result[f'{name}_low']:.3f}, {result[f'{name}_high']:.3f}]")
    print(f"{'parse_failure_rate':>20} {result['parse_failure_rate']:.3f}")


if __name__ == "__main__":
    main()
