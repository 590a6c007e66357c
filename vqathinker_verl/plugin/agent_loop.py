"""Original and perturbed responses of one video, from one decode and one run of the processor.

verl calls an agent loop's `run()` once per response: G times per prompt, at the same time, in one worker. Its stock
loop decodes and processes the video in each call and twice more afterwards (verl/experimental/agent_loop). Here the
sessions of a prompt share the frames, the prompt's tokens and the processor's features.

The first `num_perturbed` sessions also ask for one response to the same video with its frames perturbed in time. Both
requests are sent together, so that the server batches them. A perturbed response is never trained on: its text travels
in `extra_fields` to the trainer, which compares the rewards (docs/rewards.md, temporal consistency).

Doors of verl 0.9.1: `actor_rollout_ref.rollout.agent.default_agent_loop=vqathinker` and
`...agent.agent_loop_manager_class=vqathinker_verl.plugin.agent_loop.VideoQualityAgentLoopManager`.

verl asks a reward worker only for a response without `reward_score`. The loop always sets it, so none is started
(`reward.num_workers=0`): validation is scored here, response by response, and training by the trainer, which sees the
batch.
"""

import asyncio
import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar
from uuid import uuid4

import numpy as np
import ray
import torch
from verl.experimental.agent_loop.agent_loop import AgentLoopBase, AgentLoopMetrics, AgentLoopOutput, register
from verl.trainer.ppo.v1.agent_loop_tq import AgentLoopManagerTQ, AgentLoopWorkerTQ
from verl.utils.profiler import simple_timer
from verl.utils.tokenizer.chat_template import apply_chat_template
from verl.workers.rollout.replica import TokenOutput

from vqathinker_verl.adapters.verl import score_response
from vqathinker_verl.frames.tensors import Video, vllm_times
from vqathinker_verl.perturbations import (
    DropFill,
    Perturbation,
    PerturbationConfig,
    draw_perturbation,
    perturbation_rng,
)
from vqathinker_verl.plugin.config import TemporalConfig, reward_config, validation_response_length
from vqathinker_verl.plugin.dataset import shows_image
from vqathinker_verl.plugin.features import dtype_of_inputs, store_features, without_pixels
from vqathinker_verl.plugin.patches import use_times_of_the_rollouts
from vqathinker_verl.plugin.sharing import SingleFlight
from vqathinker_verl.seeding import seed_from

MAX_DRAWS = 100  # until a short video shows a change; nearly always the first draw does


@dataclass(frozen=True)
class PreparedPrompt:
    """What all sessions of one prompt share.

    `prompt_ids` are what the trainer sees, with the video's tokens; `server_prompt_ids` are for vLLM, which puts them
    in itself. `features` are the small ones: the pixel values are in TransferQueue (features.py). `copies` are the
    perturbed copies, each with its perturbation: one for all sessions, or with `temporal.per_response` one for each;
    none where there is nothing to compare.
    """

    prompt_ids: list[int]
    server_prompt_ids: list[int]
    videos: list[Video] | None
    features: dict[str, Any]
    copies: tuple[tuple[Perturbation, list[Video]], ...] = ()


def draw_visible_perturbation(
    video: Video, rng: np.random.Generator, config: PerturbationConfig
) -> Perturbation | None:
    """A perturbation that shows in this video, or None for one too short to perturb.

    A short video fills its T frames with repetitions of a few source frames: a permutation among equal ones changes
    nothing and is drawn again (docs/rewards.md), unless `redraw_identity` is False.
    """
    frames, metadata = video
    if not config.redraw_identity:
        return draw_perturbation(len(frames), rng, config)
    source = np.asarray(metadata["frames_indices"])
    if len(np.unique(source)) < 2:
        return None
    for _ in range(MAX_DRAWS):
        perturbation = draw_perturbation(len(frames), rng, config)
        if perturbation is None or perturbation.black.any() or (source[perturbation.indices] != source).any():
            return perturbation
    return None


def blank_pixel(processor: Any, fill: DropFill) -> torch.Tensor:
    """What a dropped frame shows: uint8 (C, 1, 1), black or the mean colour that the processor subtracts."""
    mean = processor.video_processor.image_mean
    values = [round(255 * channel) for channel in mean] if fill == "mean" else [0] * len(mean)
    return torch.tensor(values, dtype=torch.uint8).reshape(-1, 1, 1)


def perturb(video: Video, perturbation: Perturbation, blank: torch.Tensor) -> Video:
    """The frames of `video` in the perturbation's order, `blank` where it says so; the metadata stays.

    Timestamps stay unchanged, so that only the pixels reveal the perturbation.
    """
    frames, metadata = video
    frames = frames[torch.from_numpy(perturbation.indices)]  # indexing copies
    frames[torch.from_numpy(perturbation.black)] = blank
    return frames, metadata


def video_id_of(row: dict[str, Any]) -> str:
    """The video's id in a row of the dataset.

    Raises:
        KeyError: the row has none.
    """
    extra_info = row["extra_info"]
    if not extra_info.get("video_id"):
        raise KeyError(
            f"row {extra_info.get('index')} has no extra_info.video_id; make the parquet with `vqathinker prepare`"
        )
    return extra_info["video_id"]


def chain_of(row: dict[str, Any]) -> str | None:
    """The chain that a row's video belongs to, None for a labelled video."""
    return (row.get("extra_info") or {}).get("chain")


def response_seed(sampling_seed: int, global_step: int, video_id: str, session_id: int, perturbed: bool) -> int:
    """The seed that vLLM samples one response with, the same in a resumed run and on every machine: 32 bits."""
    return seed_from(int(sampling_seed), int(global_step), str(video_id), int(session_id), bool(perturbed), bits=32)


@register("vqathinker")
class VideoQualityAgentLoop(AgentLoopBase):
    """One question about one video, answered once, or once more with the video's frames perturbed in time."""

    prompts: ClassVar[SingleFlight[PreparedPrompt]] = SingleFlight()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.temporal = TemporalConfig.from_config(self.config)
        self.reward_config = reward_config(self.config)
        self.sampling_seed: int | None = self.config.vqathinker.sampling_seed
        self.validation_response_length = validation_response_length(self.config)
        self.feature_dtype = dtype_of_inputs(self.config)

    async def run(
        self, sampling_params: dict[str, Any], priority: int = 0, *, is_validation: bool, **kwargs: Any
    ) -> AgentLoopOutput:
        """Answer one prompt once (verl/experimental/agent_loop/single_turn_agent_loop.py is the model).

        Args:
            sampling_params: vLLM's sampling parameters.
            priority: the request's priority at the server.
            is_validation: set by the worker below; in validation, `temporal.in_validation` decides whether perturbed
                responses are drawn.
            kwargs: the dataset's row, with `uid`, `session_id` and `global_steps`.

        Returns:
            The original response. `extra_fields` holds `response_text`, `perturbation` (its name or None),
            `perturbed_response` (text or None), `perturbed_tokens` (count) and, in validation, `reward_extra_info`.

        Raises:
            VideoError: the video cannot be decoded; verl then counts the session as failed and goes on.
        """
        if is_validation:
            sessions = self.rollout_config.val_kwargs.n if self.temporal.in_validation else 0
            kwargs["global_steps"] = 0  # one perturbation a video in all validations, so that they can be compared
            if self.validation_response_length is not None:
                sampling_params = {**sampling_params, "max_tokens": self.validation_response_length}
        else:
            sessions = self.temporal.perturbed_per_group(self.rollout_config.n)
        # A chain is compared with itself, not with perturbed copies; a still image has no order to perturb.
        if chain_of(kwargs) is not None or shows_image(list(kwargs["raw_prompt"])):
            sessions = 0
        copies = sessions if self.temporal.per_response else min(sessions, 1)
        prepare = partial(self._prepare, kwargs, copies=copies, trained_on=not is_validation)
        async with self.prompts.use(kwargs["uid"], prepare) as prompt:
            shown = [prompt.videos]
            perturbation = None
            if kwargs["session_id"] < sessions and prompt.copies:
                perturbation, copy = prompt.copies[kwargs["session_id"] if self.temporal.per_response else 0]
                shown.append(copy)
            requests = [
                self._generate(
                    prompt.server_prompt_ids, videos, self._seeded(sampling_params, kwargs, number > 0), int(priority)
                )
                for number, videos in enumerate(shown)
            ]
            metrics: dict[str, Any] = {}
            with simple_timer("generate_sequences", metrics):
                outputs = await asyncio.gather(*requests)
        output = await self._as_agent_loop_output(prompt, outputs[0], metrics)
        perturbed = outputs[1].token_ids if len(outputs) > 1 else None
        output.extra_fields.update(
            response_text=self._decode(output.response_ids),
            perturbation=None if perturbation is None else perturbation.name,
            perturbed_response=None if perturbed is None else self._decode(perturbed),
            perturbed_tokens=0 if perturbed is None else len(perturbed),
            turn_scores=[],
            tool_rewards=[],
        )
        if is_validation:
            self._score(output, kwargs)
        else:
            # The trainer writes the batch's rewards over this before the advantages. If it did not, NaN would stop the
            # run, where 0 would train on nothing.
            output.reward_score = math.nan
        return output

    def _decode(self, token_ids: list[int]) -> str:
        return self.tokenizer.decode(token_ids, skip_special_tokens=True)

    def _score(self, output: AgentLoopOutput, row: dict[str, Any]) -> None:
        """Set the score of a response in validation, and what verl writes to `trainer.validation_data_dir`."""
        fields = output.extra_fields
        result = score_response(
            fields["response_text"],
            row["reward_model"]["ground_truth"],
            self.reward_config,
            chained=chain_of(row) is not None,
        )
        output.reward_score = result["score"]
        fields["reward_extra_info"] = {
            **result,
            "video_id": video_id_of(row),
            "data_source": row["data_source"],
            "chain": chain_of(row),
            "strength": (row.get("extra_info") or {}).get("strength"),
            "perturbation": fields["perturbation"],
            "perturbed_response": fields["perturbed_response"],
        }

    async def _prepare(self, row: dict[str, Any], *, copies: int, trained_on: bool) -> PreparedPrompt:
        messages = list(row["raw_prompt"])
        multi_modal_data = await self.process_multi_modal_info(messages)
        videos = multi_modal_data.get("videos")
        self._assert_mm_supported(bool(multi_modal_data))
        features: dict[str, Any] = {}
        prompt_ids = await self.ct_build_initial_tokens(messages, videos=videos, mm_inputs_out=features)
        features.pop("attention_mask", None)
        if trained_on:
            features = await store_features(row["uid"], features, self.feature_dtype)
        else:
            # verl keeps a validation batch's features, 45 MB a video at 12 x 560 x 560, and never reads them.
            features = without_pixels(features)
        plain = PreparedPrompt(prompt_ids, self._unexpanded(messages) if videos else prompt_ids, videos, features)
        if not copies or not videos:
            return plain

        video_id = video_id_of(row)
        if len(videos) != 1:
            raise ValueError(f"{video_id}: {len(videos)} videos in one prompt, expected one to perturb")
        drawn = []
        for number in range(copies):
            response = number if self.temporal.per_response else None
            rng = perturbation_rng(self.temporal.seed, int(row["global_steps"]), video_id, response)
            drawn.append(draw_visible_perturbation(videos[0], rng, self.temporal.perturbations))
        visible = [one for one in drawn if one is not None]
        if len(visible) < copies:  # left out of the comparison, and counted by the trainer
            return plain
        blank = blank_pixel(self.processor, self.temporal.perturbations.drop_fill)
        return replace(plain, copies=tuple((one, [perturb(videos[0], one, blank)]) for one in visible))

    def _unexpanded(self, messages: list[dict[str, Any]]) -> list[int]:
        """The prompt as the chat template writes it: one placeholder a video, which vLLM expands as the processor does.

        verl sends the expanded prompt, and folds runs of Qwen's placeholders before vLLM sees it. That undoes the
        expansion of Qwen2.5-VL, but not that of Qwen3-VL, which writes a time stamp before each pair of frames, nor
        InternVL's: there the rollouts would see another prompt than the trainer, or none (docs/models.md).
        """
        text = apply_chat_template(
            self.processor, messages, tokenize=False, add_generation_prompt=True, **self.apply_chat_template_kwargs
        )
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def _seeded(self, sampling_params: dict[str, Any], row: dict[str, Any], perturbed: bool) -> dict[str, Any]:
        """The sampling parameters with the response's own seed, where the run asks for one."""
        if self.sampling_seed is None:
            return sampling_params
        where = (int(row["global_steps"]), video_id_of(row), int(row["session_id"]), perturbed)
        return {**sampling_params, "seed": response_seed(self.sampling_seed, *where)}

    async def _generate(
        self, prompt_ids: list[int], videos: list[Video] | None, sampling_params: dict[str, Any], priority: int
    ) -> TokenOutput:
        return await self.server_manager.generate(
            request_id=uuid4().hex,
            prompt_ids=prompt_ids,
            sampling_params=sampling_params,
            video_data=videos,
            mm_processor_kwargs={**self._get_mm_processor_kwargs(), **self._times(videos)},
            priority=priority,
        )

    def _times(self, videos: list[Video] | None) -> dict[str, Any]:
        return vllm_times(self.processor.config.model_type, videos) if videos else {}

    async def _as_agent_loop_output(
        self, prompt: PreparedPrompt, output: TokenOutput, metrics: dict[str, Any]
    ) -> AgentLoopOutput:
        metrics["num_preempted"] = -1 if output.num_preempted is None else output.num_preempted
        merged, response_mask, log_probs = await self.ct_merge_assistant_token(
            prompt.prompt_ids,
            output.token_ids,
            [],
            [] if output.log_probs else None,
            assistant_logprobs=output.log_probs or None,
        )
        split = len(merged.token_ids) - len(response_mask)
        limit = self.rollout_config.response_length
        return AgentLoopOutput(
            prompt_ids=merged.token_ids[:split],
            response_ids=merged.token_ids[split:][:limit],
            response_mask=response_mask[:limit],
            response_logprobs=log_probs[:limit] if log_probs else None,
            # Not stored by verl; the worker below takes the features from here, without the pixel values.
            multi_modal_data={"videos": prompt.videos, "features": prompt.features},
            mm_processor_kwargs=self._get_mm_processor_kwargs(),
            num_turns=2,
            metrics=AgentLoopMetrics(**metrics),
            extra_fields=output.extra_fields,
        )


class VideoQualityAgentLoopWorker(AgentLoopWorkerTQ.__ray_metadata__.modified_class):
    """verl's worker, which tells the loop whether it validates, and does not run the processor again."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        use_times_of_the_rollouts(self.processor, self.rollout_config.dtype)

    async def _run_agent_loop(self, sampling_params: dict[str, Any], trajectory: dict[str, Any], **kwargs: Any) -> Any:
        return await super()._run_agent_loop(
            sampling_params, trajectory, is_validation=bool(trajectory["validate"]), **kwargs
        )

    def _compute_multi_modal_inputs(self, output: AgentLoopOutput, input_ids: torch.Tensor) -> dict[str, Any]:
        features = (output.multi_modal_data or {}).get("features")
        # A copy, since verl pops entries from it.
        return super()._compute_multi_modal_inputs(output, input_ids) if features is None else dict(features)


class VideoQualityAgentLoopManager(AgentLoopManagerTQ):
    """verl's manager over the worker above."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.agent_loop_workers_class = ray.remote(VideoQualityAgentLoopWorker)
