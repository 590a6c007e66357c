"""The reward of the stock runs of bench_step.py: one response at a time, as verl's reward workers ask for it."""

from vqathinker_verl.adapters.verl import score_response
from vqathinker_verl.rewards.config import RewardConfig


def compute_score(data_source, solution_str, ground_truth, extra_info=None, **_) -> dict:
    return score_response(solution_str, ground_truth, RewardConfig())
