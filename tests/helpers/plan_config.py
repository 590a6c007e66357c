"""A config with just the fields that the plan reads, so that its tests need no composition."""

import copy

from omegaconf import OmegaConf

FIELDS = {
    "data": {
        "train_files": None,
        "train_batch_size": 32,
        "max_prompt_length": 4096,
        "max_response_length": 2048,
        "seed": 0,
        "frames": {
            "train": {"num_frames": 6, "max_pixels": 200704},
            "val": {"num_frames": 12, "max_pixels": 313600},
        },
    },
    "actor_rollout_ref": {
        "model": {
            "path": "Qwen/Qwen2.5-VL-7B-Instruct",
            "lora_rank": 0,
            "exclude_modules": None,
            "enable_gradient_checkpointing": True,
            "use_fused_kernels": False,
        },
        "actor": {
            "use_kl_loss": True,
            "ppo_epochs": 1,
            "ppo_mini_batch_size": 32,
            "ppo_micro_batch_size_per_gpu": 2,
            "calculate_entropy": False,
            "entropy_coeff": 0,
            "optim": {"override_optimizer_config": None},
            "fsdp_config": {
                "model_dtype": "fp32",
                "fsdp_size": -1,
                "param_offload": False,
                "optimizer_offload": False,
            },
        },
        "rollout": {
            "n": 4,
            "nnodes": 0,
            "n_gpus_per_node": 8,
            "dtype": "bfloat16",
            "free_cache_engine": True,
            "log_prob_micro_batch_size_per_gpu": 4,
            "max_model_len": 6144,
            "max_num_batched_tokens": 8192,
            "enable_chunked_prefill": True,
            "enforce_eager": False,
            "engine_kwargs": {"vllm": {"mm_processor_cache_gb": 1}},
            "gpu_memory_utilization": 0.5,
            "tensor_model_parallel_size": 1,
            "max_num_seqs": 256,
        },
    },
    "algorithm": {"use_kl_in_reward": False},
    "trainer": {
        "nnodes": 1,
        "n_gpus_per_node": 8,
        "total_epochs": 3,
        "total_training_steps": None,
        "v1": {"trainer_mode": "vqathinker_sync"},
    },
    "vqathinker": {
        "reward": {"ranking_chunk_size": None},
        "temporal": {"enable": True, "num_perturbed": None, "in_validation": False, "seed": 0, "perturbations": {}},
    },
}


def plan_config(**changes):
    """The fields above, with dotted names changed: plan_config(**{"trainer.nnodes": 2})."""
    config = OmegaConf.create(copy.deepcopy(FIELDS))
    for name, value in changes.items():
        OmegaConf.update(config, name, value)
    return config
