#!/usr/bin/env bash
# Does it learn? Run the demo at full length: GRPO on clips of known degradation, validated on scenes not trained on.
#
#   bash recipes/learn_demo.sh                      # all rewards, one seed
#   SEED=1 ARM=ranking bash recipes/learn_demo.sh   # one arm of the ablation with another seed
#   python docs/learning_report.py outputs/learn    # tables and plot of all runs in that folder
#
# With MODEL_PATH, TRAIN_FILES and VAL_FILES set, the same protocol runs on real data (recipes/run_vqathinker.sh says
# how to make them). Model: the demo's tiny Qwen2.5-VL, which the script makes. verl 0.9.1, vLLM 0.24.0. Run on 2 CPU
# cores with 24 GiB and no GPU: docs/learning.md has the results. The same command resumes from the last checkpoint.
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# ---- what a user may change -----------------------------------------------------------------------------------------
ARM=${ARM:-all}                        # all | no_temporal | temporal_margin | regression | ranking | local_ranking
export SEED=${SEED:-0}
export TOTAL_STEPS=${TOTAL_STEPS:-40}
TEST_FREQ=${TEST_FREQ:-20}
TRAIN_CLIPS=${TRAIN_CLIPS:-324}
VAL_CLIPS=${VAL_CLIPS:-108}
WARMUP_STEPS=${WARMUP_STEPS:-1500}
TEMPORAL_MARGIN=${TEMPORAL_MARGIN:-0.05} # for the arm temporal_margin
SAMPLES=${SAMPLES:-32}                 # answers to each held-out clip in the evaluations before and after
LEARN_DIR=${LEARN_DIR:-outputs/learn}
# ---------------------------------------------------------------------------------------------------------------------

if [ "${1:-}" = "--help" ] || [ "${1:-}" = "-h" ]; then
  sed -n '2,/^$/p;/^# ---- what/,/^# ------/p' "${BASH_SOURCE[0]}" | grep -v '^set\|^ROOT' | sed 's/^# \{0,1\}//'
  exit 0
fi

NO_TEMPORAL=(vqathinker.temporal.enable=false)
case $ARM in
  all) REWARD=() ;;
  no_temporal) REWARD=("${NO_TEMPORAL[@]}") ;;
  temporal_margin) REWARD=(vqathinker.reward.temporal_margin="$TEMPORAL_MARGIN") ;;
  regression) REWARD=(vqathinker.reward.ranking_weight=0 "${NO_TEMPORAL[@]}") ;;
  ranking) REWARD=(vqathinker.reward.regression_weight=0 "${NO_TEMPORAL[@]}") ;;
  local_ranking) REWARD=(vqathinker.reward.ranking_chunk_size=2) ;; # the release: two videos of one GPU
  *)
    echo "vqathinker: ARM=$ARM; expected all, no_temporal, temporal_margin, regression, ranking or local_ranking" >&2
    exit 2
    ;;
esac
REWARD+=(vqathinker.temporal.in_validation=true) # every arm also answers on perturbed copies of the held-out clips

export DEMO_DIR=${DEMO_DIR:-$LEARN_DIR/demo-seed$SEED} OUTPUT_DIR=$LEARN_DIR/$ARM-seed$SEED
OVERRIDES=("${REWARD[@]}" trainer.test_freq="$TEST_FREQ" trainer.save_freq="$TEST_FREQ")
if [ -z "${MODEL_PATH:-}" ]; then
  export DEMO_ARGUMENTS="--train-clips $TRAIN_CLIPS --val-clips $VAL_CLIPS --warmup-steps $WARMUP_STEPS"
fi
bash "$ROOT/recipes/run_vqathinker.sh" "${OVERRIDES[@]}" "$@"

STACK=${DEVICE:-}
if [ -z "$STACK" ]; then
  if nvidia-smi --list-gpus >/dev/null 2>&1; then STACK=gpu; else STACK=cpu; fi
fi
if [ "$STACK" = gpu ]; then ENVIRONMENT=.venv-gpu; else ENVIRONMENT=.venv; fi # as run_vqathinker.sh chose
export PATH="$ROOT/$ENVIRONMENT/bin:$PATH"
evaluate() { # MODEL DIR; exit code 1: done, but a metric is undefined, which was reported
  vqathinker evaluate --model "$1" --labels "${VAL_FILES:-$DEMO_DIR/val.parquet}" --num-samples "$SAMPLES" --output-dir "$2" ||
    [ $? = 1 ]
}
evaluate "${MODEL_PATH:-$DEMO_DIR/model}" "$LEARN_DIR/before-seed$SEED/evaluation" # existing answers are kept
rm -rf "$OUTPUT_DIR/model" "$OUTPUT_DIR/evaluation" # from an earlier start
vqathinker export "$OUTPUT_DIR" --output-dir "$OUTPUT_DIR/model"
evaluate "$OUTPUT_DIR/model" "$OUTPUT_DIR/evaluation"
