"""Custom rewards: functions of a batch that a run adds to the four by configuration (docs/custom_rewards.md)."""

import importlib
import importlib.util
import inspect
import math
import re
import sys
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from vqathinker_verl.checks import FloatArray, as_vector
from vqathinker_verl.rewards.inputs import RewardInputs

# A function of a batch and its own keyword arguments; returns (N,) numbers, NaN for no verdict.
BatchReward = Callable[..., ArrayLike]

# Names that are taken: other values are logged, dumped or returned under them.
TAKEN = frozenset(
    (
        *("regression", "ranking", "temporal", "format", "total", "overall"),
        *(
            "parse_failure_rate",
            "group_std",
            "ranking_accuracy",
            "srcc",
            "chain_accuracy",
            "chain_ranking",
            "chain",
            "strength",
            "temporal_win_rate",
            "temporal_excluded",
        ),
        *("update", "uid", "video_id", "data_source", "mos", "response", "perturbation", "perturbed_response"),
        *("pred_mos", "score", "parse_failure"),
    )
)
FIELDS = ("path", "name", "weight", "kwargs")


@dataclass(frozen=True)
class ExtraReward:
    """A reward in addition to the four; checked when made.

    Attributes:
        function: called with a `RewardInputs` and `kwargs`; returns (N,) numbers, NaN for "no verdict".
        weight: factor in the total, any finite number: below 0 for a penalty, 0 to log the reward only.
        kwargs: the function's keyword arguments.
    """

    function: BatchReward
    weight: float = 1.0
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise ValueError(f"expected a function, got {self.function!r}")
        weight = self.weight
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight):
            raise ValueError(f"weight: expected a finite number, got {weight!r}")
        if not isinstance(self.kwargs, Mapping):
            raise ValueError(f"kwargs: expected a mapping, got {self.kwargs!r}")
        try:
            signature = inspect.signature(self.function)
        except ValueError:  # some functions written in C do not tell theirs
            return
        try:
            signature.bind(None, **self.kwargs)
        except TypeError as error:
            raise ValueError(
                f"kwargs: the function takes ({', '.join(signature.parameters)}), "
                f"so it cannot be called with a batch and {dict(self.kwargs)}: {error}"
            ) from error

    def evaluate(self, batch: RewardInputs, *, name: str) -> FloatArray:
        """Return the reward (N,) of the batch, NaN for no verdict; `name` is what errors call the reward.

        Raises:
            RuntimeError: the function failed.
            ValueError: it returned another number of values than there are responses, or an infinite one.
        """
        try:
            values = self.function(batch, **self.kwargs)
        except Exception as error:
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise RuntimeError(f"extra reward {name!r} failed: {reason}") from error
        return as_vector(f"extra reward {name!r}", values, length=len(batch), nan_allowed=True).copy()


ExtraRewards = Mapping[str, ExtraReward | Mapping[str, Any]]


def load_extra_rewards(rewards: ExtraRewards | None) -> dict[str, ExtraReward]:
    """Return the extra rewards by name, their functions loaded.

    Args:
        rewards: for each name an ExtraReward, or what the configuration says of it: `path` (`pkg://package.module`, or
            a Python file), `name` (of the function in it), `weight` (1) and `kwargs` ({}).

    Raises:
        ValueError: for a name that is taken or no plain word, an unknown or missing field, a path or a name that does
            not load, a weight that is not a finite number, or `kwargs` that the function does not accept; the message
            begins with the reward's name.
    """
    if not isinstance(rewards, Mapping | None):
        raise ValueError(f"extra_rewards: expected a mapping from names to rewards, got {rewards!r}")
    loaded = {}
    for name, reward in (rewards or {}).items():
        try:
            if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
                raise ValueError("expected a name of letters, digits and underscores that begins with a letter")
            if name in TAKEN:
                raise ValueError("this name is taken; choose another one")
            loaded[name] = reward if isinstance(reward, ExtraReward) else _from_mapping(reward)
        except ValueError as error:
            raise ValueError(f"extra reward {name!r}: {error}") from error
    return loaded


def weighted_sum(rewards: Mapping[str, ExtraReward], values: Mapping[str, FloatArray]) -> FloatArray | float:
    """Return what extra rewards add to the total (N,): their values with their weights, nothing for NaN."""
    return sum((rewards[name].weight * np.where(np.isnan(row), 0.0, row) for name, row in values.items()), 0.0)


def _from_mapping(settings: object) -> ExtraReward:
    if not isinstance(settings, Mapping):
        raise ValueError(f"expected a mapping with {', '.join(FIELDS)}, got {settings!r}")
    values: dict[str, Any] = _plain(settings)
    if unknown := sorted(values.keys() - set(FIELDS)):
        raise ValueError(f"unknown setting {', '.join(unknown)}; the settings are {', '.join(FIELDS)}")
    for key in ("path", "name"):
        if not values.get(key) or not isinstance(values[key], str):
            raise ValueError(f"{key}: expected text, got {values.get(key)!r}")
    function = _load_function(values.pop("path"), values.pop("name"))
    return ExtraReward(function, **values)


def _plain(value: Any) -> Any:
    """Return a configuration's containers as dicts and lists."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value


def _load_function(path: str, name: str) -> BatchReward:
    module = _load_module(path)
    try:
        function = getattr(module, name)
    except AttributeError:
        raise ValueError(f"{path}: has no {name!r}") from None
    if not callable(function):
        raise ValueError(f"{path}: {name!r} is not a function but of type {type(function).__name__}")
    return function  # type: ignore[no-any-return]


@cache  # adapters come here at every call
def _load_module(path: str) -> ModuleType:
    """Return the module of a `pkg://` path or of a Python file, as verl's own loaders take them.

    Raises:
        ValueError: there is none, or importing it fails.
    """
    package, file = path.startswith("pkg://"), Path(path.removeprefix("file://")).expanduser().resolve()
    if not package and not (file.is_file() and file.suffix == ".py"):
        raise ValueError(f"{path}: no such Python file; expected pkg://package.module or the path of a .py file")
    try:
        return importlib.import_module(path.removeprefix("pkg://").replace("/", ".")) if package else _execute(file)
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: cannot be imported, {type(error).__name__}: {reason}") from error


def _execute(file: Path) -> ModuleType:
    name = f"extra_reward_{file.stem}_{zlib.crc32(bytes(file)):08x}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)  # dataclasses and pickle look it up there
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
