"""Memory of one GPU while a step trains and while it generates, from the architecture and the config. docs/plan.md."""

from dataclasses import dataclass

from omegaconf import DictConfig

from vqathinker_verl.plan.model import Model, Stack

GIB = 2**30
BYTES = {"fp32": 4, "float32": 4, "bf16": 2, "bfloat16": 2, "fp16": 2, "float16": 2}
# Bytes per token and vocabulary entry that verl 0.9.1's head takes on padded batches at its worst moment, counted on
# the meta device with the dtypes of CUDA's autocast, where softmax and log-softmax are fp32: in the update, in the
# update with `actor.calculate_entropy`, and for the old log-probabilities, which come with the entropy and without
# gradients.
LOGIT_BYTES_UPDATE, LOGIT_BYTES_UPDATE_ENTROPY, LOGIT_BYTES_LOG_PROBS = 9.5, 19.3, 10.7
# Assumed, not computed: what vLLM measures at start (activations, CUDA graphs), and the CUDA contexts of two processes.
VLLM_RESERVE = 4 * GIB
CONTEXTS = 3 * GIB
# CUDA graphs cannot be put away while vLLM sleeps (verl's rollout.yaml); 1 to 2 GiB, assumed.
CUDA_GRAPHS = 1.5 * GIB
MM_CACHE_GB, MM_CACHES = 4, 2  # vLLM's default, and the processes of a server that hold one


@dataclass(frozen=True)
class Memory:
    """Bytes on one GPU, by use, in the phases of a step; in the host's memory, per node; and on disk.

    `log_probs` is the phase before the update that computes the old log-probabilities. `update` is the copy that AdamW
    works on, after activations and logits are gone. `checkpoint` is one checkpoint of all nodes.
    """

    training: dict[str, float]
    log_probs: dict[str, float]
    update: float
    generation: dict[str, float]
    host: dict[str, float]
    checkpoint: float
    kv_bytes_per_token: int
    kv_tokens: int

    @property
    def training_peak(self) -> float:
        """Bytes at the worst moment of training: old log-probabilities, a block's backward pass, or AdamW's step."""
        passing = sum(self.training[name] for name in ("gathered layers", "activations", "logits"))
        updating = sum(self.training.values()) - passing + max(passing, self.update)
        return max(updating, sum(self.log_probs.values()))

    @property
    def generation_peak(self) -> float:
        """Bytes while vLLM generates."""
        return sum(self.generation.values())


def estimate(
    config: DictConfig, model: Model, prompt: int, patches: int, response: int, gpu_bytes: float, trained: int
) -> Memory:
    """Estimate the memory of a recipe.

    Args:
        config: The composed config.
        model: The architecture.
        prompt: Tokens of a prompt.
        patches: Patches of a video, as the vision encoder sees them.
        response: Tokens of a response, at most.
        gpu_bytes: Memory of one GPU.
        trained: Trained parameters: all of them, or the adapter's.
    """
    actor, rollout = config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout
    engine = actor.fsdp_config
    shards = world_size(config)
    held = BYTES[engine.model_dtype]
    computed = BYTES[(engine.get("mixed_precision") or {}).get("param_dtype", "bf16")]
    total = model.parameters + (trained if has_adapter(config) else 0)

    weights, gradients, adam = total * held / shards, trained * held / shards, 2 * trained * held / shards
    outside = total - sum(model.blocks)
    gathered = 0 if shards == 1 and held == computed else computed * (outside + 2 * max(model.blocks))
    tokens = actor.ppo_micro_batch_size_per_gpu * (prompt + response)
    seen = actor.ppo_micro_batch_size_per_gpu * patches
    checkpointed = config.actor_rollout_ref.model.enable_gradient_checkpointing
    fused = config.actor_rollout_ref.model.use_fused_kernels
    kept = activations(model.language, tokens, checkpointed) + activations(model.vision, seen, checkpointed)
    with_entropy = actor.get("calculate_entropy", False) or actor.get("entropy_coeff", 0)
    per_logit = LOGIT_BYTES_UPDATE_ENTROPY if with_entropy else LOGIT_BYTES_UPDATE
    if not rollout.free_cache_engine:
        asleep = {"vLLM, awake": rollout.gpu_memory_utilization * gpu_bytes}
    else:
        asleep = {"vLLM, asleep: CUDA graphs (assumed)": 0 if rollout.get("enforce_eager") else CUDA_GRAPHS}
    training = {
        "weights": weights,
        "gradients": gradients,
        "Adam's states": adam,
        "gathered layers": gathered,
        "activations": kept,
        "logits": 0 if fused else per_logit * tokens * model.vocabulary,
        "CUDA contexts": CONTEXTS,
        **asleep,
    }
    evaluated = rollout.log_prob_micro_batch_size_per_gpu * (prompt + response)
    log_probs = {
        "weights": weights,
        "Adam's states": 0 if engine.optimizer_offload else adam,
        "gathered layers": gathered,
        "logits": 0 if fused else LOGIT_BYTES_LOG_PROBS * evaluated * model.vocabulary,
        "CUDA contexts": CONTEXTS,
        **asleep,
    }
    special = actor.optim.get("override_optimizer_config") or {}
    foreach = special.get("foreach", True) and not special.get("fused", False)

    parallel = rollout.tensor_model_parallel_size
    served = model.parameters * BYTES[rollout.dtype] / parallel
    pool = rollout.gpu_memory_utilization * gpu_bytes - served - VLLM_RESERVE
    kv_bytes = 2 * model.language.layers * model.language.key_value * BYTES[rollout.dtype] // parallel
    generation = {
        "trainer's weights": 0 if engine.param_offload else weights,
        "trainer's Adam states": 0 if engine.optimizer_offload else adam,
        "vLLM: weights": served,
        "vLLM: activations, graphs (assumed)": VLLM_RESERVE,
        "vLLM: KV cache": max(pool, 0),
        "CUDA contexts": CONTEXTS,
    }
    here = config.trainer.n_gpus_per_node
    host = {
        "reference model": 0 if has_adapter(config) or not needs_reference(config) else weights * here,
        "offloaded weights": weights * here if engine.param_offload else 0,
        "offloaded Adam states": adam * here if engine.optimizer_offload else 0,
        # Without an adapter vLLM throws its weights away when it sleeps, and is sent new ones.
        "vLLM's weights, asleep": served * here if has_adapter(config) and rollout.free_cache_engine else 0,
        "vLLM's caches of processed videos": MM_CACHES * _mm_cache_bytes(rollout) * here // parallel,
    }
    # Weights and Adam's states as they are held, and the Hugging Face configuration, which is small.
    checkpoint = (total + 2 * trained) * held
    copy = gradients if foreach else 0
    cache_tokens = max(int(pool // kv_bytes), 0)
    return Memory(training, log_probs, copy, generation, host, checkpoint, kv_bytes, cache_tokens)


def _mm_cache_bytes(rollout: DictConfig) -> float:
    engine = (rollout.get("engine_kwargs") or {}).get("vllm") or {}
    return float(engine.get("mm_processor_cache_gb", MM_CACHE_GB)) * GIB


def activations(stack: Stack, tokens: int, checkpointed: bool) -> float:
    """Return the bytes that `tokens` in a stack keep for the backward pass, in bf16.

    A block keeps its input, two norms' inputs in fp32, queries, keys, values, the attention's output, and four arrays
    of the gated MLP. With gradient checkpointing all but one block keep only their input, and that one is recomputed.
    """
    block_input = 2 * tokens * stack.hidden
    inside = 2 * tokens * (2 * stack.hidden + 2 * stack.attention + 2 * stack.key_value + 4 * stack.intermediate)
    inside += 2 * 4 * tokens * stack.hidden
    blocks_inside = 1 if checkpointed else stack.layers
    return stack.layers * block_input + blocks_inside * inside


def trained_parameters(config: DictConfig, model: Model) -> int:
    """Parameters that learn: the adapter's with LoRA, else all."""
    chosen = config.actor_rollout_ref.model
    if not has_adapter(config):
        return model.parameters
    return model.lora_parameters(chosen.lora_rank, chosen.get("exclude_modules"))


def has_adapter(config: DictConfig) -> bool:
    """Whether the recipe trains a LoRA adapter."""
    return bool(config.actor_rollout_ref.model.lora_rank > 0)


def needs_reference(config: DictConfig) -> bool:
    """Whether a reference model is held: for a KL term in the loss or in the reward."""
    return bool(config.actor_rollout_ref.actor.use_kl_loss or config.algorithm.use_kl_in_reward)


def world_size(config: DictConfig) -> int:
    """GPUs over which FSDP shards: all that train, or as many as fsdp_size says."""
    size = config.actor_rollout_ref.actor.fsdp_config.fsdp_size
    return int(size if size > 0 else config.trainer.nnodes * config.trainer.n_gpus_per_node)
