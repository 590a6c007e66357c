"""Our config keys: `data.frames`, and under `vqathinker` the rewards, temporal pair and validation's response length.

This is a separate module from the agent loop, the dataset and the trainer, which use it, so that the check before the
start does not import them.
"""

import logging
import math
from dataclasses import dataclass, field, replace
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from vqathinker_verl.frames import CacheConfig, FrameSpec
from vqathinker_verl.parsing import ends_with_think
from vqathinker_verl.perturbations import PerturbationConfig
from vqathinker_verl.rewards.config import RewardConfig
from vqathinker_verl.rewards.extra import ExtraReward, load_extra_rewards

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TemporalConfig:
    """`vqathinker.temporal` of the run's config.

    Attributes:
        enable: whether perturbed responses are sampled.
        num_perturbed: perturbed responses per video, 1 to G; None means G / 2 rounded up.
        in_validation: draw a perturbed response with every response of validation, and log how the scores differ; the
            perturbation of a video is then the same in every validation.
        per_response: each perturbed response sees its own perturbation (the released code); False: one per video and
            step, so that all responses to a perturbed copy share the vision encoder's output.
        seed: of the perturbations; with global step and video it decides which one is drawn.
        perturbations: which are drawn, and how strong they are (vqathinker_verl.perturbations.PerturbationConfig).
    """

    enable: bool = True
    num_perturbed: int | None = None
    in_validation: bool = False
    per_response: bool = False
    seed: int = 0
    perturbations: PerturbationConfig = field(default_factory=PerturbationConfig)

    @classmethod
    def from_config(cls, config: DictConfig) -> "TemporalConfig":
        """Read and check `vqathinker.temporal`.

        Raises:
            ValueError: an unknown field, `num_perturbed` outside 1..G, or `per_response` that is not true or false.
        """
        fields = plain(config.vqathinker.temporal)
        try:
            fields["perturbations"] = PerturbationConfig(**fields.get("perturbations") or {})
        except (TypeError, ValueError) as error:
            raise ValueError(f"vqathinker.temporal.perturbations: {error}") from error
        try:
            temporal = cls(**fields)
        except TypeError as error:
            raise ValueError(f"vqathinker.temporal: {error}") from error
        group_size = config.actor_rollout_ref.rollout.n
        if temporal.num_perturbed is not None and not 1 <= temporal.num_perturbed <= group_size:
            raise ValueError(
                f"vqathinker.temporal.num_perturbed is {temporal.num_perturbed}, expected 1 to rollout.n "
                f"({group_size}); to draw none, set vqathinker.temporal.enable=false"
            )
        if not isinstance(temporal.per_response, bool):
            raise ValueError(f"vqathinker.temporal.per_response: expected true or false, got {temporal.per_response!r}")
        return temporal

    def perturbed_per_group(self, group_size: int) -> int:
        """How many of the G sessions of a prompt also draw a perturbed response."""
        if not self.enable:
            return 0
        return math.ceil(group_size / 2) if self.num_perturbed is None else self.num_perturbed


def plain(section: DictConfig) -> dict[str, Any]:
    """A section of the config as a dictionary, its references to other fields resolved."""
    return cast("dict[str, Any]", OmegaConf.to_container(section, resolve=True))


def reward_config(config: DictConfig, processor: Any = None) -> RewardConfig:
    """`vqathinker.reward`, checked.

    Args:
        config: the run's config.
        processor: of the model, where it is known. If its chat template ends a prompt with `<think>`, as those of
            reasoning models do, `prompt_opens_think` is set and the log says so.

    Raises:
        ValueError: a value that RewardConfig refuses.
    """
    rewards = RewardConfig.from_mapping(plain(config.vqathinker.reward))
    if processor is None or rewards.prompt_opens_think or not opens_think(processor, config.data):
        return rewards
    logger.warning(
        "the model's chat template ends the prompt with <think>: the format reward accepts a response that continues "
        "it, without a <think> of its own (vqathinker.reward.prompt_opens_think)"
    )
    return replace(rewards, prompt_opens_think=True)


def opens_think(processor: Any, data: DictConfig) -> bool:
    """Whether the chat template ends a prompt with `<think>` (`data` is `config.data`)."""
    question = [{"role": "user", "content": [{"type": "text", "text": "?"}]}]
    options = plain(data.apply_chat_template_kwargs) if data.get("apply_chat_template_kwargs") else {}
    prompt = processor.apply_chat_template(question, add_generation_prompt=True, tokenize=False, **options)
    return ends_with_think(prompt)


def extra_rewards(config: DictConfig) -> dict[str, ExtraReward]:
    """Return the user's own rewards of `vqathinker.extra_rewards`, loaded, by name.

    Raises:
        ValueError: one of them cannot be loaded or called, see `load_extra_rewards`.
    """
    try:
        return load_extra_rewards(plain(config.vqathinker.extra_rewards))
    except ValueError as error:
        raise ValueError(f"vqathinker.extra_rewards: {error}") from error


def max_model_len_fault(config: DictConfig) -> str | None:
    """Return why `rollout.max_model_len` would waste vLLM's memory, cut answers off or end the start, or None.

    Without it, verl takes the model's full context, up to 262,144 tokens, and vLLM reserves keys and values of one such
    sequence. Without chunked prefill, verl 0.9.1 tries to raise `max_num_batched_tokens` to it, in a frozen dataclass
    (`vllm_async_server.py`), which ends the start in a traceback.
    """
    needed = config.data.max_prompt_length + config.data.max_response_length
    rollout = config.actor_rollout_ref.rollout
    length = rollout.max_model_len
    if not isinstance(length, int) or length < needed:
        return (
            f"actor_rollout_ref.rollout.max_model_len is {length}, expected data.max_prompt_length + "
            f"data.max_response_length = {needed}"
        )
    if not rollout.enable_chunked_prefill and rollout.max_num_batched_tokens < length:
        return (
            f"actor_rollout_ref.rollout.max_num_batched_tokens is {rollout.max_num_batched_tokens}, expected at least "
            f"max_model_len = {length}, since enable_chunked_prefill is false"
        )
    return None


def validation_response_length(config: DictConfig) -> int | None:
    """`vqathinker.validation_response_length`: most tokens of a response in validation; None: as in training.

    Raises:
        ValueError: it is not a whole number from 1 to `data.max_response_length`.
    """
    length, longest = config.vqathinker.validation_response_length, config.data.max_response_length
    if length is not None and (isinstance(length, bool) or not isinstance(length, int) or not 1 <= length <= longest):
        raise ValueError(
            f"vqathinker.validation_response_length: expected a whole number from 1 to data.max_response_length "
            f"({longest}), or null, got {length!r}"
        )
    return length


def chains_share(config: DictConfig) -> float:
    """`data.chains.share`: the share of each training batch that chains fill (`config` is `data`).

    Raises:
        ValueError: it is not a number from 0 to 1.
    """
    share = OmegaConf.select(config, "chains.share", default=0.25)
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
        raise ValueError(f"data.chains.share: expected a number from 0 to 1, got {share!r}")
    return float(share)


def frame_spec(split: str, image_patch_size: int, config: DictConfig, image_frames: int = 1) -> FrameSpec:
    """Which frames a row of `split` gives, from `data.frames.train` or `data.frames.val`.

    Args:
        split: `extra_info.split` of the row.
        image_patch_size: the processor's.
        config: `data`.
        image_frames: frames of the model's temporal patch, which is how often a still image is shown.

    Raises:
        ValueError: `data.frames` is missing, has a field that FrameSpec does not know, or values that do not fit.
    """
    name = "train" if split == "train" else "val"
    section = OmegaConf.select(config, f"frames.{name}")
    if section is None:
        raise ValueError(f"data.frames.{name} is missing: set at least data.frames.{name}.num_frames and a size")
    fields = plain(section)
    if fields.get("size") is not None:
        fields["size"] = tuple(fields["size"])
    try:
        factor = image_patch_size * config.frames.get("merge_size", 2)
        return FrameSpec(**fields, factor=factor, image_frames=image_frames)
    except (TypeError, ValueError) as error:
        raise ValueError(f"data.frames.{name}: {error}") from error


def cache_config(config: DictConfig) -> CacheConfig:
    """The frame cache of a node, from `data.frames` (`config` is `data`).

    Raises:
        ValueError: A value that CacheConfig refuses.
    """
    frames, default = config.frames, CacheConfig()
    try:
        return CacheConfig(
            max_bytes=frames.get("cache_bytes", default.max_bytes),
            timeout_seconds=frames.get("timeout_seconds", default.timeout_seconds),
            decoders=frames.get("decoders"),
            decoder=frames.get("decoder", default.decoder),
        )
    except ValueError as error:
        raise ValueError(f"data.frames: {error}") from error
