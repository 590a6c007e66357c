"""The plan as text."""

from omegaconf import DictConfig, OmegaConf

from vqathinker_verl.plan.figures import Figures
from vqathinker_verl.plan.memory import GIB
from vqathinker_verl.plan.model import Model
from vqathinker_verl.plan.recipe import differences


def text_of(config: DictConfig, model: Model, figures: Figures, *, full: bool = False) -> str:
    """Return the plan's text; `full` prints every field of the config, not only those that differ from verl's."""
    if full:
        fields = ["Config", *OmegaConf.to_yaml(config, resolve=True).splitlines()]
    else:
        fields = ["Config, where it differs from verl's ppo_trainer"]
        fields += [f"  {name}: {value}" for name, value in sorted(differences(config).items())]
    sections = [fields, model_lines(config, model, figures), token_lines(figures), step_lines(config, figures)]
    return "\n\n".join("\n".join(lines) for lines in [*sections, memory_lines(config, figures)])


def model_lines(config: DictConfig, model: Model, figures: Figures) -> list[str]:
    """Which model, how large, and how that is known."""
    learns = "all trained" if figures.trained == model.parameters else f"frozen; {figures.trained:,} in an adapter"
    return [
        "Model",
        f"  {config.actor_rollout_ref.model.path}: {model.parameters:,} parameters, {learns}",
        f"  from {model.source}",
    ]


def token_lines(figures: Figures) -> list[str]:
    """Tokens of the prompts and the responses."""
    lines = [f"Tokens, for a video of {figures.width}x{figures.height}"]
    for split, prompt in figures.prompts.items():
        height, width = figures.specs[split].target_size(figures.height, figures.width)
        how = "counted" if prompt.exact else "estimated: no tokenizer here"
        lines.append(
            f"  {split}: {figures.specs[split].num_frames} frames of {width}x{height} = {prompt.video} tokens; "
            f"text {prompt.text} ({how}); prompt {prompt.total}"
        )
    return [*lines, f"  response: at most {figures.response}"]


def step_lines(config: DictConfig, figures: Figures) -> list[str]:
    """Work of a step and an epoch."""
    steps, group = figures.steps, config.actor_rollout_ref.rollout.n
    source = "LSVQ's training split, as an example" if steps.example else "of data.train_files"
    lines = [
        "Steps",
        f"  {steps.rows:,} rows ({source}) / {steps.videos} videos a step = {steps.per_epoch:,} steps per epoch; "
        f"{steps.total:,} steps in all",
        f"  rollouts per step: {steps.responses} responses ({steps.videos} videos x {group}), at most "
        f"{steps.responses * figures.longest:,} tokens; optimizer steps: {steps.updates}",
        f"  each video is ranked against {steps.ranked - 1} others (of its own data set)",
    ]
    if not steps.perturbed:
        return [*lines, "  no temporal pair (vqathinker.temporal.enable=false)"]
    return [
        *lines,
        f"  the temporal pair adds {steps.perturbed} responses (+{steps.perturbed / steps.responses:.0%}), at most "
        f"{steps.perturbed * figures.longest:,} tokens: generated in the same vLLM batch, never trained on",
    ]


def memory_lines(config: DictConfig, figures: Figures) -> list[str]:
    """Memory of one GPU and of the host."""
    memory, trainer, rollout = figures.memory, config.trainer, config.actor_rollout_ref.rollout
    idle = f"; {rollout.nnodes * rollout.n_gpus_per_node} more hold vLLM alone" if rollout.nnodes else ""
    lines = [
        f"Memory per GPU, in GiB, estimated (a GPU has {figures.gpu_gib:g}; docs/plan.md has the formulas)",
        f"  {trainer.nnodes} x {trainer.n_gpus_per_node} GPUs train and generate{idle}",
        f"  training: {memory.training_peak / GIB:.1f}",
        *part_lines(memory.training),
    ]
    before = f"{sum(memory.log_probs.values()) / GIB:.1f}, of which logits {memory.log_probs['logits'] / GIB:.1f}"
    lines.append(f"    (before the update, for the old log-probabilities: {before})")
    if memory.update:
        lines.append(f"    (in the optimizer's step: AdamW's copy of {memory.update / GIB:.1f}, activations gone)")
    kept = trainer.get("max_actor_ckpt_to_keep") or "all"
    host = ", ".join(f"{name} {size / GIB:.0f}" for name, size in memory.host.items() if size) or "nothing"
    return [
        *lines,
        f"  generation: {memory.generation_peak / GIB:.1f}",
        *part_lines(memory.generation),
        f"  the KV cache holds {memory.kv_tokens:,} tokens of {memory.kv_bytes_per_token:,} bytes: on each replica "
        f"{min(memory.kv_tokens // figures.longest, rollout.max_num_seqs)} of the longest sequences at once",
        f"  host memory per node, without the processes' own: {host}",
        f"  disk: {memory.checkpoint / 1e9:.0f} GB per checkpoint of all nodes, {kept} kept and one more while saving",
    ]


def part_lines(parts: dict[str, float]) -> list[str]:
    """One line for each use that takes something."""
    return [f"    {name:<36} {size / GIB:6.1f}" for name, size in parts.items() if size]
