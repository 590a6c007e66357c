"""The formulas of docs/plan.md against arithmetic done by hand, for Qwen2.5-VL-7B on 8 GPUs."""

import pytest
from helpers.plan_config import plan_config

from vqathinker_verl.plan.memory import CONTEXTS, CUDA_GRAPHS, GIB, VLLM_RESERVE, estimate, trained_parameters
from vqathinker_verl.plan.model import load_model

PARAMETERS = 8_292_166_656
PROMPT, RESPONSE = 889, 2048
PATCHES = 3 * 24 * 42  # three pairs of frames of 336 x 588 pixels, in patches of 14


@pytest.fixture(scope="module")
def model():
    return load_model("Qwen/Qwen2.5-VL-7B-Instruct")


def memory_of(model, **changes):
    config = plan_config(**changes)
    return estimate(config, model, PROMPT, PATCHES, RESPONSE, 79 * GIB, trained_parameters(config, model))


def test_training_by_hand(model):
    memory = memory_of(model)
    # fp32 over 8 GPUs: 4 bytes of weights, 4 of gradients and 8 of Adam's for each of 8,292,166,656 / 8 parameters.
    assert memory.training["weights"] == memory.training["gradients"] == 4_146_083_328
    assert memory.training["Adam's states"] == 8_292_166_656
    # bf16 copies of what lies outside the blocks (1,136,078,080 parameters, of which the embedding and the output
    # layer are 1,089,994,752) and of two language blocks (233,057,792 each).
    assert memory.training["gathered layers"] == 2 * (1_136_078_080 + 2 * 233_057_792)
    # 2 x (889 + 2048) = 5,874 tokens. 28 block inputs of 3584 in bf16; and in the block that is recomputed, in bf16
    # 2 x 3584 + 2 x 3584 + 2 x 512 + 4 x 18944 = 91,136 numbers a token, and in fp32 2 x 3584.
    language = 28 * 2 * 5_874 * 3584 + 2 * 5_874 * 91_136 + 8 * 5_874 * 3584
    # 2 x 3,024 patches. 32 inputs of 1280; 6 x 1280 + 4 x 3420 = 21,360 numbers a patch, and 2 x 1280 in fp32.
    vision = 32 * 2 * 6_048 * 1280 + 2 * 6_048 * 21_360 + 8 * 6_048 * 1280
    assert memory.training["activations"] == language + vision == 3_233_774_592
    assert memory.training["logits"] == 9.5 * 5_874 * 152_064 == 8_485_627_392
    assert memory.training["logits"] / GIB == pytest.approx(7.9, abs=0.05)
    # The optimizer's copy (4,146,083,328) is smaller than what the backward pass holds.
    assert memory.update == 4_146_083_328
    # Old log-probabilities of 4 responses: no gradients, but the entropy, and twice the tokens.
    assert memory.log_probs["logits"] == 10.7 * 2 * 5_874 * 152_064
    assert memory.log_probs["logits"] / GIB == pytest.approx(17.8, abs=0.05)
    assert memory.training_peak == sum(memory.log_probs.values())
    assert memory.training_peak / GIB == pytest.approx(36.9, abs=0.05)
    assert sum(memory.training.values()) / GIB == pytest.approx(33.8, abs=0.05)


def test_the_entropy_in_the_update_doubles_its_logits(model):
    """19.3 bytes, counted in the same way as the 9.5 without it."""
    memory = memory_of(model, **{"actor_rollout_ref.actor.calculate_entropy": True})
    assert memory.training["logits"] / GIB == pytest.approx(16.1, abs=0.05)


def test_host_and_disk_by_hand(model):
    memory = memory_of(model)
    # One cache in each of two processes of eight servers; vLLM's own default is 4 GiB each.
    assert memory.host["vLLM's caches of processed videos"] == 16 * GIB
    default = memory_of(model, **{"actor_rollout_ref.rollout.engine_kwargs.vllm.mm_processor_cache_gb": 4})
    assert default.host["vLLM's caches of processed videos"] == 64 * GIB
    # fp32: 4 bytes of weights and 8 of Adam's.
    assert memory.checkpoint == 12 * PARAMETERS == 99_505_999_872


def test_generation_by_hand(model):
    memory = memory_of(model)
    # Half of 79 GiB is vLLM's: 16,584,333,312 bytes of weights in bf16, 4 GiB assumed, the rest for keys and values.
    assert memory.generation["vLLM: weights"] == 2 * PARAMETERS == 16_584_333_312
    assert memory.generation["vLLM: KV cache"] == 42_412_802_048 - 16_584_333_312 - 4_294_967_296
    # A token's keys and values: 2 x 28 layers x 4 heads x 128 x 2 bytes.
    assert memory.kv_bytes_per_token == 57_344
    assert memory.kv_tokens == 21_533_501_440 // 57_344 == 375_514
    assert memory.generation_peak == 42_412_802_048 + 4_146_083_328 + 8_292_166_656 + CONTEXTS


def test_the_reference_model_waits_in_host_memory(model):
    assert memory_of(model).host["reference model"] == 4 * PARAMETERS
    # On two nodes each holds half; without a KL term there is none.
    assert memory_of(model, **{"trainer.nnodes": 2}).host["reference model"] == 2 * PARAMETERS
    assert memory_of(model, **{"actor_rollout_ref.actor.use_kl_loss": False}).host["reference model"] == 0


def test_one_gpu_holds_everything_and_offloads_what_waits(model):
    fsdp = "actor_rollout_ref.actor.fsdp_config"
    memory = memory_of(
        model, **{"trainer.n_gpus_per_node": 1, f"{fsdp}.param_offload": True, f"{fsdp}.optimizer_offload": True}
    )
    assert memory.training["weights"] == 4 * PARAMETERS
    assert memory.generation["trainer's weights"] == memory.generation["trainer's Adam states"] == 0
    assert memory.host["offloaded weights"] + memory.host["offloaded Adam states"] == 12 * PARAMETERS
    # Now AdamW's copy outweighs activations and logits, and counts in their place.
    assert memory.update == 4 * PARAMETERS
    assert memory.training_peak == 20 * PARAMETERS + CONTEXTS + CUDA_GRAPHS


def test_adamw_one_tensor_after_the_other_needs_no_copy(model):
    override = {"actor_rollout_ref.actor.optim.override_optimizer_config": {"foreach": False}}
    assert memory_of(model, **override).update == 0


def test_an_adapter_alone_has_gradients_and_states(model):
    chosen = "actor_rollout_ref.model"
    memory = memory_of(model, **{f"{chosen}.lora_rank": 64, f"{chosen}.exclude_modules": ".*visual.*"})
    adapter = 161_480_704  # test_plan_model.py
    assert memory.training["weights"] == (PARAMETERS + adapter) / 2
    assert memory.training["gradients"] == adapter / 2
    assert memory.training["Adam's states"] == adapter
    # The reference is the actor without its adapter; vLLM keeps its weights, in host memory, while it sleeps.
    assert memory.host["reference model"] == 0
    assert memory.host["vLLM's weights, asleep"] == 8 * 2 * PARAMETERS


def test_vllm_that_stays_awake_counts_while_training(model):
    awake = memory_of(model, **{"actor_rollout_ref.rollout.free_cache_engine": False})
    assert awake.training["vLLM, awake"] == 0.5 * 79 * GIB


def test_tensor_parallelism_divides_vllms_weights_and_keys(model):
    memory = memory_of(model, **{"actor_rollout_ref.rollout.tensor_model_parallel_size": 2})
    assert memory.generation["vLLM: weights"] == PARAMETERS
    assert memory.kv_bytes_per_token == 28_672


def test_without_checkpointing_every_block_keeps_its_inside(model):
    kept = memory_of(model, **{"actor_rollout_ref.model.enable_gradient_checkpointing": False}).training["activations"]
    language = 28 * (2 * 5_874 * 3584 + 2 * 5_874 * 91_136 + 8 * 5_874 * 3584)
    vision = 32 * (2 * 6_048 * 1280 + 2 * 6_048 * 21_360 + 8 * 6_048 * 1280)
    assert kept == language + vision


def test_the_cache_is_never_negative(model):
    memory = memory_of(model, **{"actor_rollout_ref.rollout.gpu_memory_utilization": 0.2})
    assert memory.kv_tokens == 0
    assert memory.generation["vLLM: activations, graphs (assumed)"] == VLLM_RESERVE
