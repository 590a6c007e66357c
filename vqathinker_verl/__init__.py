"""VQAThinker for verl: video quality models trained by GRPO from human scores alone.

The public names are imported on first use, so that importing the package costs nothing, needs NumPy and SciPy only,
and never pulls in verl, torch or vLLM.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# public name -> module that defines it
_PUBLIC = {
    "ParsedAnswer": "parsing",
    "parse_answer": "parsing",
    "regression_reward": "rewards.regression",
    "ranking_reward": "rewards.ranking",
    "temporal_bonus": "rewards.temporal",
    "format_reward": "rewards.format",
    "RewardBatch": "rewards.batch",
    "RewardConfig": "rewards.config",
    "score_batch": "rewards.batch",
    "ExtraReward": "rewards.extra",
    "RewardInputs": "rewards.inputs",
    "srcc": "metrics",
    "plcc": "metrics",
    "krcc": "metrics",
    "rmse": "metrics",
    "plcc_raw": "metrics",
    "rmse_raw": "metrics",
    "fit_logistic": "metrics",
    "evaluate_predictions": "metrics",
    "VideoScorer": "inference.scorer",
}

__all__ = ["__version__", *sorted(_PUBLIC)]

if TYPE_CHECKING:
    from vqathinker_verl.inference.scorer import VideoScorer
    from vqathinker_verl.metrics import evaluate_predictions, fit_logistic, krcc, plcc, plcc_raw, rmse, rmse_raw, srcc
    from vqathinker_verl.parsing import ParsedAnswer, parse_answer
    from vqathinker_verl.rewards.batch import RewardBatch, score_batch
    from vqathinker_verl.rewards.config import RewardConfig
    from vqathinker_verl.rewards.extra import ExtraReward
    from vqathinker_verl.rewards.format import format_reward
    from vqathinker_verl.rewards.inputs import RewardInputs
    from vqathinker_verl.rewards.ranking import ranking_reward
    from vqathinker_verl.rewards.regression import regression_reward
    from vqathinker_verl.rewards.temporal import temporal_bonus


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
