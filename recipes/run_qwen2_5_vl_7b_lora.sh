#!/usr/bin/env bash
# VQAThinker with Qwen2.5-VL-7B and LoRA: only an adapter on the language model is trained.
#
#   TRAIN_FILES=... VAL_FILES=... bash recipes/run_qwen2_5_vl_7b_lora.sh [overrides]
#
# Model: Qwen/Qwen2.5-VL-7B-Instruct, 8.29 B parameters, and an adapter of rank 64.
# Versions: verl 0.9.1, vLLM 0.24.0, transformers 5.9.0.
# Hardware: 8 GPUs of 80 GB on one node; 2 will do.
# Memory: about 47 GiB per GPU in training and 47 in generation; 140 GiB of host memory per node (vqathinker plan).
# Run here: not run on this hardware.
set -euo pipefail
export MODEL_PATH=${MODEL_PATH:-Qwen/Qwen2.5-VL-7B-Instruct} EXPERIMENT=qwen2_5_vl_7b_lora
export OUTPUT_DIR=${OUTPUT_DIR:-outputs/qwen2_5_vl_7b_lora}
exec bash "$(dirname "${BASH_SOURCE[0]}")/run_vqathinker.sh" "$@"
