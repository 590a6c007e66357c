#!/usr/bin/env bash
# VQAThinker with Qwen3-VL-2B on a single GPU, all weights trained.
#
#   TRAIN_FILES=... VAL_FILES=... bash recipes/run_qwen3_vl_2b_1gpu.sh [overrides]
#
# Model: Qwen/Qwen3-VL-2B-Instruct, 2.13 B parameters.
# Versions: verl 0.9.1, vLLM 0.24.0, transformers 5.9.0.
# Hardware: 1 GPU of 80 GB, 96 GiB of host memory.
# Memory: about 46 GiB per GPU in training and 50 in generation; 34 GiB of host memory per node (vqathinker plan).
# Run here: not run on this hardware.
# What this model needs of verl and vLLM: docs/models.md.
set -euo pipefail
export MODEL_PATH=${MODEL_PATH:-Qwen/Qwen3-VL-2B-Instruct} EXPERIMENT=qwen3_vl_2b_1gpu
export OUTPUT_DIR=${OUTPUT_DIR:-outputs/qwen3_vl_2b_1gpu} NGPUS_PER_NODE=${NGPUS_PER_NODE:-1}
exec bash "$(dirname "${BASH_SOURCE[0]}")/run_vqathinker.sh" "$@"
