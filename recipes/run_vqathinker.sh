#!/usr/bin/env bash
# VQAThinker on verl: GRPO with regression, ranking, temporal and format rewards on real video.
#
#   bash recipes/run_vqathinker.sh                  # no settings: a tiny Qwen2.5-VL and demo clips, GPU or not
#   MODEL_PATH=... TRAIN_FILES=... VAL_FILES=... \
#     bash recipes/run_vqathinker.sh [options] [-- overrides]
#
# This script installs what is needed into .venv (with a GPU: .venv-gpu), then calls `vqathinker train` with the given
# options and Hydra overrides of verl's fields or ours. The other recipes choose a model and an experiment and run this
# script. `vqathinker plan RECIPE` shows what a recipe would do. The same command with the same OUTPUT_DIR resumes from
# the last checkpoint.
#
# Variables; relative paths start at the current folder:
#   MODEL_PATH=       Hugging Face folder or name; empty: the demo's tiny model
#   TRAIN_FILES=      parquet of `vqathinker prepare`; empty: the demo's clips
#   VAL_FILES=
#   EXPERIMENT=       a file of vqathinker_verl/config/experiment; empty: full, or demo without the above
#   OUTPUT_DIR=       empty: outputs/vqathinker
#   TOTAL_STEPS=      empty: 30 for the demo, else 3 epochs
#   NNODES=           empty: the experiment's, 1 unless it says otherwise
#   NGPUS_PER_NODE=   empty: all GPUs of this node; one for the demo or without a GPU
#   DEMO_DIR=         empty: outputs/demo
#   DEMO_ARGUMENTS=   further arguments of `vqathinker demo`, e.g. "--train-clips 336"
#   SEED=             empty: 0
#   DEVICE=           gpu or cpu; empty: gpu if an NVIDIA GPU answers, else cpu for the demo
#   ATTENTION=        the trainer's; empty: flash_attention_2 if flash-attn is installed, else sdpa
#   VERBOSE=          1: print what verl, Ray and vLLM print
#   PLAN=             1: print the overrides, one per line, and start nothing (`vqathinker plan`)
#
# Model: any Qwen-VL that verl and vLLM load. verl 0.9.1, vLLM 0.24.0. Run here: the demo, on 2 CPU cores and 24 GiB
# without a GPU. Not run on GPUs yet: config/experiment/full.yaml and those built on it.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

if [ "${1:-}" = "--help" ] || [ "${1:-}" = "-h" ]; then
  sed -n '2,/^set/p' "${BASH_SOURCE[0]}" | sed -n 's/^# \{0,1\}//p'
  exit 0
fi
STACK=${DEVICE:-}
if [ -z "$STACK" ]; then
  if nvidia-smi --list-gpus >/dev/null 2>&1; then STACK=gpu; else STACK=cpu; fi
fi
refuse() {
  echo "vqathinker: $1" >&2
  exit 2
}
# `vqathinker train` checks all settings; these checks come earlier, before an installation that takes minutes.
if [ -z "${PLAN:-}" ]; then
  case " $* " in
    *" --model"* | *" --train"* | *" --val"*) ;; # given as options
    *)
      if [ -n "${MODEL_PATH:-}${TRAIN_FILES:-}${VAL_FILES:-}" ] || [ "${EXPERIMENT:-demo}" != demo ]; then
        for name in MODEL_PATH TRAIN_FILES VAL_FILES; do
          if [ -z "${!name:-}" ]; then
            refuse "$name is not set; a run needs MODEL_PATH, TRAIN_FILES and VAL_FILES (the demo: none of them)"
          fi
        done
        if [ -z "${DEVICE:-}" ] && [ "$STACK" = cpu ]; then
          refuse "no NVIDIA GPU answers on this machine (nvidia-smi); DEVICE=cpu trains a tiny model without one"
        fi
      fi
      ;;
  esac
  bash "$ROOT/recipes/install.sh" "$STACK"
fi
if [ "$STACK" = gpu ]; then ENVIRONMENT=.venv-gpu; else ENVIRONMENT=.venv; fi
export PATH="$ROOT/$ENVIRONMENT/bin:$PATH"
exec vqathinker train "$@"
