"""All numbers of a plan, and the problems that would stop the run."""

from dataclasses import dataclass

from omegaconf import DictConfig

from vqathinker_verl.frames.spec import FrameSpec
from vqathinker_verl.plan.memory import GIB, Memory, estimate, trained_parameters
from vqathinker_verl.plan.model import Model
from vqathinker_verl.plan.steps import Steps, count_steps
from vqathinker_verl.plan.tokens import PromptTokens, frame_spec, prompt_tokens, video_patches
from vqathinker_verl.plugin.config import max_model_len_fault

GPU_GIB = 79.0  # what a card sold as 80 GB has, in GiB
VIDEO = (1080, 1920)  # height and width of the source video that tokens are counted for


@dataclass(frozen=True)
class Figures:
    """What `vqathinker plan` prints; `specs` and `prompts` are by split, "train" and "val"."""

    gpu_gib: float
    height: int
    width: int
    trained: int
    specs: dict[str, FrameSpec]
    prompts: dict[str, PromptTokens]
    response: int
    steps: Steps
    memory: Memory

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence that is trained on."""
        return self.prompts["train"].total + self.response


def figures_of(
    config: DictConfig, model: Model, *, gpu_gib: float = GPU_GIB, height: int = VIDEO[0], width: int = VIDEO[1]
) -> Figures:
    """Compute the numbers of a recipe's plan.

    Args:
        config: The composed config.
        model: The architecture of `actor_rollout_ref.model.path`.
        gpu_gib: Memory of one GPU in GiB.
        height: Of a source video, in pixels.
        width: Of a source video, in pixels.
    """
    specs = {split: frame_spec(config, split, model) for split in ("train", "val")}
    prompts = {
        split: prompt_tokens(model, config.actor_rollout_ref.model.path, spec, height, width)
        for split, spec in specs.items()
    }
    patches = video_patches(model, specs["train"], height, width)
    trained = trained_parameters(config, model)
    response = config.data.max_response_length
    memory = estimate(config, model, prompts["train"].total, patches, response, gpu_gib * GIB, trained)
    return Figures(gpu_gib, height, width, trained, specs, prompts, response, count_steps(config), memory)


def faults_of(config: DictConfig, figures: Figures) -> list[str]:
    """Return the problems that would stop the run, one line each."""
    faults = [
        f"a prompt of {split} takes about {prompt.total} tokens, more than data.max_prompt_length="
        f"{config.data.max_prompt_length}; raise it, or lower data.frames.{split}"
        for split, prompt in figures.prompts.items()
        if prompt.total > config.data.max_prompt_length
    ]
    if fault := max_model_len_fault(config):
        faults.append(fault)
    memory = figures.memory
    for phase, peak in (("training", memory.training_peak), ("generation", memory.generation_peak)):
        if peak > figures.gpu_gib * GIB:
            faults.append(f"{phase} takes about {peak / GIB:.1f} GiB of a GPU's {figures.gpu_gib:g}")
    if memory.kv_tokens < figures.longest:
        faults.append(
            f"vLLM's KV cache holds {memory.kv_tokens} tokens, fewer than one sequence of {figures.longest}; raise "
            "actor_rollout_ref.rollout.gpu_memory_utilization or tensor_model_parallel_size"
        )
    return faults
