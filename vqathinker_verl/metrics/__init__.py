"""How well predicted scores agree with human ones; NumPy and SciPy only.

`correlation` and `logistic` hold the metrics, `bootstrap` their confidence intervals, and `evaluate` the one path from
scores to metrics with intervals that the API, `vqathinker evaluate` and the comparison of models share. `calibration`
maps scores to the level of a set of labels.
"""

from vqathinker_verl.metrics.correlation import krcc, plcc_raw, rmse_raw, srcc
from vqathinker_verl.metrics.evaluate import evaluate_predictions
from vqathinker_verl.metrics.logistic import LogisticFit, fit_logistic, plcc, rmse
from vqathinker_verl.metrics.pairs import chain_accuracy, pair_accuracy

__all__ = [
    "LogisticFit",
    "chain_accuracy",
    "evaluate_predictions",
    "fit_logistic",
    "krcc",
    "pair_accuracy",
    "plcc",
    "plcc_raw",
    "rmse",
    "rmse_raw",
    "srcc",
]
