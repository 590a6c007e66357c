#!/usr/bin/env bash
# VQAThinker with Qwen3-VL-8B, all weights trained.
#
#   TRAIN_FILES=... VAL_FILES=... bash recipes/run_qwen3_vl_8b.sh [overrides]
#
# Model: Qwen/Qwen3-VL-8B-Instruct, 8.77 B parameters.
# Versions: verl 0.9.1, vLLM 0.24.0, transformers 5.9.0.
# Hardware: 8 GPUs of 80 GB on one node.
# Memory: about 53 GiB per GPU in training and 55 in generation; 49 GiB of host memory per node (vqathinker plan).
# Run here: not run on this hardware.
# What this model needs of verl and vLLM: docs/models.md.
set -euo pipefail
export MODEL_PATH=${MODEL_PATH:-Qwen/Qwen3-VL-8B-Instruct} EXPERIMENT=qwen3_vl_8b
export OUTPUT_DIR=${OUTPUT_DIR:-outputs/qwen3_vl_8b}
exec bash "$(dirname "${BASH_SOURCE[0]}")/run_vqathinker.sh" "$@"
