#!/usr/bin/env bash
# VQAThinker with verl's colocate_async trainer: generation runs ahead of training on the same GPUs.
#
#   TRAIN_FILES=... VAL_FILES=... bash recipes/run_colocate_async.sh [overrides]
#
# Model: Qwen/Qwen2.5-VL-7B-Instruct, 8.29 B parameters; MODEL_PATH chooses another.
# Versions: verl 0.9.1, vLLM 0.24.0, transformers 5.9.0.
# Hardware: 8 GPUs of 80 GB on one node.
# Memory: about 55 GiB per GPU in training and 54 in generation; 47 GiB of host memory per node (vqathinker plan).
# Run here: not run on this hardware.
set -euo pipefail
export MODEL_PATH=${MODEL_PATH:-Qwen/Qwen2.5-VL-7B-Instruct} EXPERIMENT=colocate_async
export OUTPUT_DIR=${OUTPUT_DIR:-outputs/colocate_async}
exec bash "$(dirname "${BASH_SOURCE[0]}")/run_vqathinker.sh" "$@"
