#!/usr/bin/env bash
# VQAThinker with Qwen3-VL-8B and LoRA: only an adapter on the language model is trained.
#
#   TRAIN_FILES=... VAL_FILES=... bash recipes/run_qwen3_vl_8b_lora.sh [overrides]
#
# Model: Qwen/Qwen3-VL-8B-Instruct, 8.77 B parameters, and an adapter of rank 64.
# Versions: verl 0.9.1, vLLM 0.24.0, transformers 5.9.0.
# Hardware: 8 GPUs of 80 GB on one node; 2 will do.
# Memory: about 46 GiB per GPU in training and 47 in generation; 147 GiB of host memory per node (vqathinker plan).
# Run here: not run on this hardware.
# What this model needs of verl and vLLM: docs/models.md.
set -euo pipefail
export MODEL_PATH=${MODEL_PATH:-Qwen/Qwen3-VL-8B-Instruct} EXPERIMENT=qwen3_vl_8b_lora
export OUTPUT_DIR=${OUTPUT_DIR:-outputs/qwen3_vl_8b_lora}
exec bash "$(dirname "${BASH_SOURCE[0]}")/run_vqathinker.sh" "$@"
