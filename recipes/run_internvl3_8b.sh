#!/usr/bin/env bash
# VQAThinker with InternVL3-8B, the release's model, in the Hugging Face format.
#
#   TRAIN_FILES=... VAL_FILES=... bash recipes/run_internvl3_8b.sh [overrides]
#
# Model: OpenGVLab/InternVL3-8B-hf, 7.94 B parameters.
# Versions: verl 0.9.1, vLLM 0.24.0, transformers 5.9.0.
# Hardware: 8 GPUs of 80 GB on one node.
# Memory: about 64 GiB per GPU in training and 54 in generation; 46 GiB of host memory per node (vqathinker plan).
# Run here: not run on this hardware.
# What this model needs of verl and vLLM: docs/models.md.
set -euo pipefail
export MODEL_PATH=${MODEL_PATH:-OpenGVLab/InternVL3-8B-hf} EXPERIMENT=internvl3_8b
export OUTPUT_DIR=${OUTPUT_DIR:-outputs/internvl3_8b}
exec bash "$(dirname "${BASH_SOURCE[0]}")/run_vqathinker.sh" "$@"
