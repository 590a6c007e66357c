#!/usr/bin/env bash
# VQAThinker with Qwen2.5-VL-3B on a single GPU, all weights trained.
#
#   TRAIN_FILES=... VAL_FILES=... bash recipes/run_qwen2_5_vl_3b_1gpu.sh [overrides]
#
# Model: Qwen/Qwen2.5-VL-3B-Instruct, 3.75 B parameters.
# Versions: verl 0.9.1, vLLM 0.24.0, transformers 5.9.0.
# Hardware: 1 GPU of 80 GB, 128 GiB of host memory.
# Memory: about 72 GiB per GPU in training and 50 in generation; 58 GiB of host memory per node (vqathinker plan).
# Run here: not run on this hardware.
set -euo pipefail
export MODEL_PATH=${MODEL_PATH:-Qwen/Qwen2.5-VL-3B-Instruct} EXPERIMENT=qwen2_5_vl_3b_1gpu
export OUTPUT_DIR=${OUTPUT_DIR:-outputs/qwen2_5_vl_3b_1gpu} NGPUS_PER_NODE=${NGPUS_PER_NODE:-1}
exec bash "$(dirname "${BASH_SOURCE[0]}")/run_vqathinker.sh" "$@"
