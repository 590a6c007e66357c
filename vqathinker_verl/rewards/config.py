"""The constants of all rewards in one validated object."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np

from vqathinker_verl.parsing import Decimals, Fallback, Numbers, ParsedAnswer, check_choice, parse_answer
from vqathinker_verl.prompts import SCORE_RANGE
from vqathinker_verl.rewards.temporal import TemporalScope

PerturbedRivals = Literal["original", "perturbed"]


@dataclass(frozen=True, kw_only=True)
class RewardConfig:
    """Every constant of docs/rewards.md; checked when made.

    Attributes:
        sigma: width of the regression reward's bell, in MOS units.
        decimal_penalty: factor in [0, 1] on the regression reward of an answer with too few decimals.
        min_decimals: decimals that the prompt asks for.
        eps: keeps the ranking reward's roots and division from 0.
        fallback: what is read where an answer block is missing, see `parse_answer`.
        decimals: how decimals are counted, see `parse_answer`.
        numbers: which numbers are a score, see `parse_answer`.
        prompt_opens_think: whether prompts end with `<think>`, so that the format reward accepts a response that
            continues it. Training finds it out from the model's chat template.
        score_range: lowest and highest score accepted; None accepts any number.
        cross_dataset: whether videos of different data sources are compared in the ranking reward.
        ranking_chunk_size: None compares all videos of the batch. A number cuts the batch, in its order, into parts of
            so many videos that know nothing of each other: 2 is the released code, which ranks what one GPU holds.
        temporal_bonus: bonus on a reward for using the order of the frames; 0 switches it off.
        ranking_threshold: ranking reward that must be exceeded for the bonus.
        regression_threshold: regression reward that must be exceeded for the bonus.
        temporal_scope: means per "video", or over the whole "batch" (over each of its parts with `ranking_chunk_size`).
        temporal_margin: by how much the mean reward on the original must exceed the mean on the perturbed video, in
            units of the reward. 0: a draw earns the bonus, so a policy that ignores time earns it always; above 0 a
            draw earns nothing.
        perturbed_ranked_against: what a response to a perturbed video is ranked against. "original": the other videos
            as they are, so that only the frames of its own video differ between the two sides compared; "perturbed":
            the other perturbed videos (the released code).
        regression_weight: weight of the regression reward and its bonus in the total.
        ranking_weight: weight of the ranking reward and its bonus.
        format_weight: weight of the format reward.
    """

    sigma: float = 0.5
    decimal_penalty: float = 0.8
    min_decimals: int = 2
    eps: float = 1e-6
    fallback: Fallback = "none"
    decimals: Decimals = "written"
    numbers: Numbers = "strict"
    prompt_opens_think: bool = False
    score_range: tuple[float, float] | None = SCORE_RANGE
    cross_dataset: bool = False
    ranking_chunk_size: int | None = None
    temporal_bonus: float = 0.3
    ranking_threshold: float = 0.5
    regression_threshold: float = 0.9
    temporal_scope: TemporalScope = "video"
    temporal_margin: float = 0.0
    perturbed_ranked_against: PerturbedRivals = "original"
    regression_weight: float = 1.0
    ranking_weight: float = 1.0
    format_weight: float = 1.0

    def __post_init__(self) -> None:
        check_choice("fallback", self.fallback, Fallback)
        check_choice("decimals", self.decimals, Decimals)
        check_choice("numbers", self.numbers, Numbers)
        check_choice("temporal_scope", self.temporal_scope, TemporalScope)
        check_choice("perturbed_ranked_against", self.perturbed_ranked_against, PerturbedRivals)
        for name in ("prompt_opens_think", "cross_dataset"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name}: expected true or false, got {getattr(self, name)!r}")
        parts = self.ranking_chunk_size
        if parts is not None and (not isinstance(parts, int) or isinstance(parts, bool) or parts < 2):
            raise ValueError(f"ranking_chunk_size: expected a whole number of at least 2, or null, got {parts!r}")
        for name in ("sigma", "eps"):
            self._check_number(name, above=0.0)
        non_negative = ("temporal_bonus", "temporal_margin", "min_decimals")
        for name in (*non_negative, "regression_weight", "ranking_weight", "format_weight"):
            self._check_number(name, at_least=0.0)
        for name in ("ranking_threshold", "regression_threshold"):
            self._check_number(name)
        self._check_number("decimal_penalty", at_least=0.0, at_most=1.0)
        if self.score_range is not None:
            # A list, when it comes from YAML.
            bounds = tuple(self.score_range) if isinstance(self.score_range, Iterable) else ()
            if len(bounds) != 2 or not all(_is_number(bound) for bound in bounds) or not bounds[0] < bounds[1]:
                raise ValueError(f"score_range: expected [lowest, highest] or null, got {self.score_range!r}")
            object.__setattr__(self, "score_range", bounds)

    def _check_number(
        self, name: str, *, above: float | None = None, at_least: float | None = None, at_most: float | None = None
    ) -> None:
        value = getattr(self, name)
        expected = "a finite number"
        fits = _is_number(value)
        if above is not None:
            expected += f" above {above:g}"
            fits = fits and value > above
        if at_least is not None:
            expected += f" of at least {at_least:g}"
            fits = fits and value >= at_least
        if at_most is not None:
            expected += f" and at most {at_most:g}"
            fits = fits and value <= at_most
        if not fits:
            raise ValueError(f"{name}: expected {expected}, got {value!r}")

    @classmethod
    def release(cls) -> "RewardConfig":
        """Return the released code's mode: what differs from the defaults is explained in docs/rewards.md."""
        return cls(
            fallback="text",
            decimals="value",
            numbers="first",
            score_range=None,
            cross_dataset=True,
            temporal_scope="batch",
            perturbed_ranked_against="perturbed",
        )

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> "RewardConfig":
        """Return the config that a mapping (a node of a Hydra config, keyword arguments) describes.

        Raises:
            ValueError: for a key that is not a field, or a value out of its range, naming it.
        """
        allowed = [entry.name for entry in fields(cls)]
        unknown = sorted(str(key) for key in mapping if key not in allowed)
        if unknown:
            raise ValueError(
                f"unknown reward setting{'s' if len(unknown) > 1 else ''} {', '.join(unknown)}; "
                f"the settings are {', '.join(allowed)}"
            )
        return cls(**{str(key): value for key, value in mapping.items()})

    def parse(self, response: str) -> ParsedAnswer:
        """Return what a response says, read by these settings."""
        return parse_answer(
            response,
            fallback=self.fallback,
            score_range=self.score_range,
            decimals=self.decimals,
            numbers=self.numbers,
            prompt_opens_think=self.prompt_opens_think,
        )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and bool(np.isfinite(value))
