#!/usr/bin/env bash
# Does training on chains of known order help on videos unlike the labelled ones? One arm with one seed.
#
#   bash recipes/run_out_of_domain.sh                           # the arm labels_and_chains, seed 0, on the demo
#   SEED=1 ARM=labels bash recipes/run_out_of_domain.sh         # another arm, another seed
#   python recipes/out_of_domain/report.py outputs/out_of_domain   # the tables of all runs in that folder
#
#   MODEL_PATH=... TRAIN_FILES=lsvq.parquet TEST_FILES="konvid.parquet livevqc.parquet ..." CHAIN_SOURCES=clips/ \
#     EXPERIMENT=qwen2_5_vl_7b bash recipes/run_out_of_domain.sh   # the same on real data (docs/generalization.md)
#
# Arms: before (no training), labels (all rewards), labels_and_chains (all rewards, and chains for half of each batch),
# chains (chains alone), and fine_tuned (supervised, on the demo only). All arms of GRPO have the same number of steps,
# videos and responses. verl 0.9.1, vLLM 0.24.0. Run here: the demo, on 2 CPU cores and 24 GiB without a GPU. The same
# command resumes.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# ---- what a user may change -----------------------------------------------------------------------------------------
ARM=${ARM:-labels_and_chains}
export SEED=${SEED:-0}
CHAIN_SHARE=${CHAIN_SHARE:-0.5}        # of each batch
CHAIN_KINDS=${CHAIN_KINDS:-noise darkness judder} # distortions that no label covers
STUDY_DIR=${STUDY_DIR:-outputs/out_of_domain}
WARMUP_STEPS=${WARMUP_STEPS:-900}      # the demo's
QUESTION_STEPS=${QUESTION_STEPS:-2000} # further ones, in which its policy learns to answer questions
# Steps of the demo are 30; with MODEL_PATH they are those of the experiment, or TOTAL_STEPS.
# ---------------------------------------------------------------------------------------------------------------------

if [ "${1:-}" = "--help" ] || [ "${1:-}" = "-h" ]; then
  sed -n '2,/^$/p;/^# ---- what/,/^# ------/p' "${BASH_SOURCE[0]}" | grep -v '^set\|^ROOT' | sed 's/^# \{0,1\}//'
  exit 0
fi
refuse() {
  echo "vqathinker: $1" >&2
  exit 2
}
case $ARM in
  before | labels | labels_and_chains | chains) ;;
  fine_tuned) [ -z "${MODEL_PATH:-}" ] || refuse "ARM=fine_tuned: the demo only; for real data use a trainer such as verl.trainer.sft_trainer" ;;
  *) refuse "ARM=$ARM; expected before, labels, labels_and_chains, chains or fine_tuned" ;;
esac
if [ -n "${MODEL_PATH:-}" ]; then
  for name in TRAIN_FILES TEST_FILES CHAIN_SOURCES; do
    [ -n "${!name:-}" ] || refuse "$name is not set; a study of real data needs MODEL_PATH, TRAIN_FILES, TEST_FILES and CHAIN_SOURCES"
  done
fi

STACK=${DEVICE:-}
if [ -z "$STACK" ]; then
  if nvidia-smi --list-gpus >/dev/null 2>&1; then STACK=gpu; else STACK=cpu; fi
fi
if [ "$STACK" = gpu ]; then ENVIRONMENT=.venv-gpu; else ENVIRONMENT=.venv; fi # as run_vqathinker.sh chooses
[ -n "${PLAN:-}" ] || bash "$ROOT/recipes/install.sh" "$STACK"
export PATH="$ROOT/$ENVIRONMENT/bin:$PATH" OUTPUT_DIR=$STUDY_DIR/$ARM-seed$SEED

CHAINS=$STUDY_DIR/chains-seed$SEED/chains.parquet
SYNTHESIS=() FRAMES=() OVERRIDES=()
if [ -z "${MODEL_PATH:-}" ]; then
  DEMO=$STUDY_DIR/demo CLIPS=$STUDY_DIR/clips-seed$SEED # one policy: the seed is of clips, chains and training
  export MODEL_PATH=$DEMO/model EXPERIMENT=demo TOTAL_STEPS=${TOTAL_STEPS:-30} DEVICE=$STACK HF_HUB_OFFLINE=1
  TRAIN_FILES=$CLIPS/train.parquet CHAIN_SOURCES=$CLIPS/sources SYNTHESIS=(--strengths 4)
  FRAMES=(--num-frames 6 --max-pixels 7056)
  OVERRIDES=(trainer.test_freq=-1 trainer.save_freq=15 trainer.val_before_train=false) # the test sets wait for the end
  OVERRIDES+=(actor_rollout_ref.actor.optim.lr=1.0e-3) # at the demo's 2e-3, one arm lost the end of its answers
  TESTS=(same_kinds unlabelled_kinds real_clips other_format)
  TEST_FILES=$(printf "$CLIPS/%s.parquet " "${TESTS[@]}")
  if [ -z "${PLAN:-}" ]; then
    vqathinker demo --output-dir "$DEMO" --train-clips 10 --val-clips 10 --warmup-steps "$WARMUP_STEPS" \
      --question-steps "$QUESTION_STEPS"
    python "$ROOT/recipes/out_of_domain/make_clips.py" "$CLIPS" --seed "$SEED"
    for name in train "${TESTS[@]}"; do
      [ -f "$CLIPS/$name.parquet" ] || vqathinker prepare "$CLIPS/$name.csv" --video-root "$CLIPS" --scale 0 100 \
        --dataset "$name" --split "$name" --output "$CLIPS/$name.parquet"
    done
  fi
fi
read -ra TESTED <<<"$TEST_FILES"

case $ARM in
  labels_and_chains | chains)
    if [ -z "${PLAN:-}" ] && [ ! -f "$CHAINS" ]; then
      vqathinker synthesize "$CHAIN_SOURCES" --output-dir "${CHAINS%/*}" --distortions $CHAIN_KINDS \
        --seed "$SEED" "${SYNTHESIS[@]}" || [ $? = 1 ] # 1: some videos were left out, which was reported
    fi
    ;;
esac
case $ARM in
  labels) TRAINED=("$TRAIN_FILES") ;;
  labels_and_chains) TRAINED=("$TRAIN_FILES" "$CHAINS") OVERRIDES+=(data.chains.share="$CHAIN_SHARE") ;;
  chains) TRAINED=("$CHAINS") ;;
esac
unset TRAIN_FILES VAL_FILES # given as options, since they may be several
case $ARM in
  before) MODEL=$MODEL_PATH ;;
  fine_tuned)
    MODEL=$OUTPUT_DIR/model
    [ -d "$MODEL" ] || python "$ROOT/recipes/out_of_domain/fine_tune.py" --model "$MODEL_PATH" --clips "$CLIPS" \
      --output-dir "$MODEL" --seed "$SEED"
    ;;
  *)
    MODEL=$OUTPUT_DIR/model
    bash "$ROOT/recipes/run_vqathinker.sh" --train "${TRAINED[@]}" --val "${TESTED[@]}" -- "${OVERRIDES[@]}" "$@"
    [ -z "${PLAN:-}" ] || exit 0
    [ -d "$MODEL" ] || vqathinker export "$OUTPUT_DIR" --output-dir "$MODEL"
    ;;
esac
[ -z "${PLAN:-}" ] || exit 0
vqathinker evaluate --model "$MODEL" --labels "${TESTED[@]}" --scoring expectation "${FRAMES[@]}" \
  --output-dir "$OUTPUT_DIR/evaluation" || [ $? = 1 ] # 1: done, but a metric is undefined, which was reported
if [ -n "${CLIPS:-}" ]; then
  vqathinker understand "$CLIPS/questions.jsonl" --model "$MODEL" "${FRAMES[@]}" --max-tokens 40 \
    --output "$OUTPUT_DIR/understanding.jsonl"
fi
