#!/usr/bin/env bash
# VQAThinker on verl: GRPO with regression, ranking, temporal and format rewards on real video.
#
#   bash recipes/run_vqathinker.sh                  # no settings: a tiny Qwen2.5-VL and demo clips, GPU or not
#   MODEL_PATH=... TRAIN_FILES=... VAL_FILES=... \
#     bash recipes/run_vqathinker.sh [overrides]    # the real run; any Hydra override of verl's or ours may follow
#
# The other recipes choose a model and an experiment, and run this one. `vqathinker plan RECIPE` says what one would do.
# A second start with the same OUTPUT_DIR goes on from the last checkpoint.
# Model: any Qwen-VL that verl and vLLM load. verl 0.9.1, vLLM 0.24.0. Run here: the demo, on 2 CPU cores and 24 GiB
# without a GPU. Not run on GPUs yet: config/experiment/full.yaml and those built on it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# ---- what a user may change -----------------------------------------------------------------------------------------
MODEL_PATH=${MODEL_PATH:-}             # Hugging Face checkpoint; empty: the demo's tiny model
TRAIN_FILES=${TRAIN_FILES:-}           # parquet of `vqathinker prepare`; empty: the demo's clips
VAL_FILES=${VAL_FILES:-}
EXPERIMENT=${EXPERIMENT:-}             # a file of recipes/config/experiment; empty: full, or demo without the above
OUTPUT_DIR=${OUTPUT_DIR:-outputs/vqathinker}
TOTAL_STEPS=${TOTAL_STEPS:-}           # empty: 30 for the demo, else 3 epochs
NNODES=${NNODES:-}                     # empty: the experiment's, 1 unless it says otherwise
NGPUS_PER_NODE=${NGPUS_PER_NODE:-}     # empty: all GPUs of this node; one for the demo or without a GPU
DEMO_DIR=${DEMO_DIR:-outputs/demo}
DEMO_ARGUMENTS=${DEMO_ARGUMENTS:-}     # more for `vqathinker demo`, e.g. "--train-clips 336"
SEED=${SEED:-0}
VERBOSE=${VERBOSE:-}                   # 1: print what verl, Ray and vLLM print, in place of the screen
PLAN=${PLAN:-}                         # 1: print the overrides, one a line, and start nothing (`vqathinker plan`)
DEVICE=${DEVICE:-}                     # gpu or cpu; empty: gpu when an NVIDIA GPU answers
ATTENTION=${ATTENTION:-}               # the trainer's; empty: flash_attention_2 where flash-attn is installed, or sdpa
# ---------------------------------------------------------------------------------------------------------------------

if [ -z "$DEVICE" ]; then
  if [ -n "$PLAN" ] || nvidia-smi --list-gpus >/dev/null 2>&1; then DEVICE=gpu; else DEVICE=cpu; fi
fi
if [ "${1:-}" = "--help" ] || [ "${1:-}" = "-h" ]; then
  sed -n '2,/^$/p;/^# ---- what/,/^# ------/p' "${BASH_SOURCE[0]}" | grep -v '^set\|^cd' | sed 's/^# \{0,1\}//'
  exit 0
fi

if [ -z "$EXPERIMENT" ]; then
  if [ -n "$MODEL_PATH$TRAIN_FILES" ]; then EXPERIMENT=full; else EXPERIMENT=demo; fi
fi
DEMO=
if [ "$EXPERIMENT" = demo ] && [ -z "$MODEL_PATH$TRAIN_FILES" ]; then DEMO=1; fi
for name in MODEL_PATH TRAIN_FILES VAL_FILES; do
  if [ -z "$DEMO$PLAN${!name}" ]; then
    echo "vqathinker: $name is not set; a real run needs MODEL_PATH, TRAIN_FILES and VAL_FILES (the demo: none)" >&2
    exit 2
  fi
done

if [ -z "$PLAN" ]; then bash recipes/install.sh "$DEVICE"; fi
PATH="$PWD/.venv/bin:$PATH"
export TOKENIZERS_PARALLELISM=false HYDRA_FULL_ERROR=0 PYTHONUNBUFFERED=1

if [ -n "$DEMO" ] && [ -z "$PLAN" ]; then
  export HF_HUB_OFFLINE=${HF_HUB_OFFLINE:-1}
  case $DEMO_DIR in /*) ;; *) DEMO_DIR=$PWD/$DEMO_DIR ;; esac
  read -ra MORE <<<"$DEMO_ARGUMENTS"
  vqathinker demo --output "$DEMO_DIR" --seed "$SEED" "${MORE[@]}"
  for split in train val; do
    if [ "$DEMO_DIR/$split.parquet" -nt "$DEMO_DIR/labels/$split.csv" ]; then continue; fi
    vqathinker prepare "$DEMO_DIR/labels/$split.csv" --video-root "$DEMO_DIR/videos" --scale 0 100 \
      --dataset demo --split "$split" --output "$DEMO_DIR/$split.parquet"
  done
  MODEL_PATH=$DEMO_DIR/model TRAIN_FILES=$DEMO_DIR/train.parquet VAL_FILES=$DEMO_DIR/val.parquet
fi

DATA=(data.seed="$SEED")
MODEL=()
TRAINER=()
if [ -n "$TRAIN_FILES" ]; then DATA+=(data.train_files="$TRAIN_FILES"); fi
if [ -n "$VAL_FILES" ]; then DATA+=(data.val_files="$VAL_FILES"); fi
if [ -n "$MODEL_PATH" ]; then MODEL+=(actor_rollout_ref.model.path="$MODEL_PATH"); fi
if [ -n "$NNODES" ]; then TRAINER+=(trainer.nnodes="$NNODES"); fi
if [ -n "$TOTAL_STEPS" ]; then TRAINER+=(trainer.total_training_steps="$TOTAL_STEPS"); fi

if [ "$DEVICE" = cpu ]; then
  TRAINER+=(trainer.n_gpus_per_node="${NGPUS_PER_NODE:-1}")
  # VERL_ENGINE_DEVICE: verl registers its FSDP engine for "cuda"; the rest is vLLM's CPU backend.
  export VERL_PLATFORM=cpu VERL_ENGINE_DEVICE=cuda VLLM_CPU_KVCACHE_SPACE=${VLLM_CPU_KVCACHE_SPACE:-1} \
    VLLM_CPU_OMP_THREADS_BIND=nobind OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} TQ_NUM_THREADS=${TQ_NUM_THREADS:-1} \
    TORCHDYNAMO_DISABLE=1
  # The nodes of a cluster that is up have said what they have; Ray refuses to hear it again.
  if [ -n "${RAY_ADDRESS:-}" ]; then TRAINER+=(ray_kwargs.ray_init.num_cpus=null ray_kwargs.ray_init.num_gpus=null); fi
else
  if [ -n "$DEMO" ]; then NGPUS_PER_NODE=${NGPUS_PER_NODE:-1}; fi # a tiny model and batch: more would not help
  if [ -z "$NGPUS_PER_NODE$PLAN" ]; then NGPUS_PER_NODE=$(nvidia-smi --list-gpus | wc -l); fi
  if [ -n "$NGPUS_PER_NODE" ]; then TRAINER+=(trainer.n_gpus_per_node="$NGPUS_PER_NODE"); fi
  if [ -z "$ATTENTION" ] &&
    python -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("flash_attn") is None)'; then
    ATTENTION=flash_attention_2
  fi
  # Packed sequences need an attention that keeps neighbours in a row apart: flash-attn's does, sdpa's does not.
  case ${ATTENTION:=sdpa} in flash_*) PACKED=true ;; *) PACKED=false ;; esac
  MODEL+=(actor_rollout_ref.model.override_config.attn_implementation="$ATTENTION"
    actor_rollout_ref.model.use_remove_padding="$PACKED")
fi

OVERRIDES=(platform="$DEVICE" experiment="$EXPERIMENT" "${DATA[@]}" "${MODEL[@]}" "${TRAINER[@]}" "$@")
if [ -n "$PLAN" ]; then
  printf '%s\n' "${OVERRIDES[@]}"
  exit 0
fi
python -m vqathinker_verl.verl_integration.launch --output-dir "$OUTPUT_DIR" ${VERBOSE:+--verbose} "${OVERRIDES[@]}"
if [ -n "$DEMO" ]; then
  echo "MOS of the demo is a stand-in: a function of how strongly a clip was degraded. Nobody rated these clips."
fi
