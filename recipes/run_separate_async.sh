#!/usr/bin/env bash
# VQAThinker with verl's separate_async trainer: some GPUs train while the others generate.
#
#   TRAIN_FILES=... VAL_FILES=... bash recipes/run_separate_async.sh [overrides]
#
# Model: Qwen/Qwen2.5-VL-7B-Instruct, 8.29 B parameters; MODEL_PATH chooses another.
# Versions: verl 0.9.1, vLLM 0.24.0, transformers 5.9.0.
# Hardware: 8 GPUs of 80 GB on one node, 4 to train (NGPUS_PER_NODE) and 4 that only generate
# (actor_rollout_ref.rollout.n_gpus_per_node).
# Memory: about 66 GiB per GPU in training and 66 in generation; 39 GiB of host memory per node (vqathinker plan).
# Run here: not run on this hardware.
# NCCL transfers the weights, for which verl needs CuPy: requirements/gpu.txt has it.
set -euo pipefail
export MODEL_PATH=${MODEL_PATH:-Qwen/Qwen2.5-VL-7B-Instruct} EXPERIMENT=separate_async
export OUTPUT_DIR=${OUTPUT_DIR:-outputs/separate_async} NGPUS_PER_NODE=${NGPUS_PER_NODE:-4}
exec bash "$(dirname "${BASH_SOURCE[0]}")/run_vqathinker.sh" "$@"
