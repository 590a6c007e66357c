"""Draw docs/images/rewards.png from the library's own functions.

python docs/plot_rewards.py
"""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from scipy.special import ndtr

from vqathinker_verl import ranking_reward, regression_reward


def reward_at(gap: float, variance: float, *, mos: float, rival_mos: float) -> float:
    """Return the ranking reward of a response whose score lies `gap` above the mean of the only rival."""
    half = np.sqrt(variance / 2)  # two scores this far from their mean have that unbiased variance
    scores = [3 - half, 3 + half, 3 + half - gap - half, 3 + half - gap + half]
    return float(ranking_reward(scores, [mos, mos, rival_mos, rival_mos], ["video", "video", "rival", "rival"])[1])


def main() -> None:
    """Draw the regression reward against the error, the win probability and the ranking reward against the gap."""
    figure, (bell, win, fidelity) = plt.subplots(1, 3, figsize=(11, 3.2), layout="constrained")

    error = np.linspace(-2, 2, 401)
    for sigma in (0.25, 0.5, 1.0):
        bell.plot(error, regression_reward(3 + error, np.full(401, 3.0), sigma=sigma), label=f"sigma = {sigma}")
    coarse = regression_reward(3 + error, np.full(401, 3.0), decimals=np.ones(401))
    bell.plot(error, coarse, "k:", label="sigma = 0.5, one decimal")
    bell.axhline(0.9, color="grey", lw=0.6)
    bell.set(title="regression reward", xlabel="pred_mos - MOS")
    bell.legend(fontsize=7, loc="lower center")

    gap = np.linspace(-3, 3, 301)
    for variance in (0.01, 0.25, 1.0):
        win.plot(gap, ndtr(gap / np.sqrt(2 * variance + 1e-6)), label=f"group variances {variance}")
        rewards = [reward_at(value, variance, mos=4.0, rival_mos=2.0) for value in gap]
        fidelity.plot(gap, rewards, label=f"group variances {variance}")
    ties = [reward_at(value, 0.25, mos=3.0, rival_mos=3.0) for value in gap]
    fidelity.plot(gap, ties, "k:", label="variances 0.25, equal MOS")
    fidelity.axhline(0.5, color="grey", lw=0.6)
    win.set(title="win probability", xlabel="response's score - rival's mean")
    fidelity.set(title="ranking reward, the better video", xlabel="response's score - rival's mean")
    win.legend(fontsize=7)
    fidelity.legend(fontsize=7)
    figure.savefig(Path(__file__).parent / "images" / "rewards.png", dpi=110)


if __name__ == "__main__":
    main()
