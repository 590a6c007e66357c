#!/usr/bin/env bash
#SBATCH --job-name=vqathinker --nodes=2 --ntasks-per-node=1 --gpus-per-node=8 --exclusive
# VQAThinker on several nodes: one Ray cluster, one ranking batch over all of them. Three ways to start it:
#
# 1. By hand. ROLE differs between the nodes; HEAD is the first node's address on all of them:
#      ROLE=head HEAD=10.0.0.1 TRAIN_FILES=... VAL_FILES=... bash recipes/run_multi_node.sh [overrides]
#      ROLE=worker HEAD=10.0.0.1 bash recipes/run_multi_node.sh
# 2. On a Ray cluster that is already up, from one of its nodes, or submitted from outside:
#      RAY_ADDRESS=10.0.0.1:6379 TRAIN_FILES=... VAL_FILES=... bash recipes/run_multi_node.sh [overrides]
#      ray job submit --address http://10.0.0.1:8265 -- \
#        bash -c 'cd CHECKOUT && TRAIN_FILES=... VAL_FILES=... bash recipes/run_multi_node.sh [overrides]'
# 3. Slurm:
#      TRAIN_FILES=... VAL_FILES=... sbatch recipes/run_multi_node.sh [overrides]
#
# Ray listens on the nodes' addresses and runs any code that it receives, unless it requires a token. A token exists
# after `ray get-auth-token --generate`, or after any run on one machine (~/.ray/auth_token; it must be the same on every
# node). For 2, set RAY_AUTH_MODE=token only if your cluster requires a token.
#
# Every node must have this checkout with its .venv-gpu, the model, the videos and OUTPUT_DIR under the same paths.
# Model: Qwen/Qwen2.5-VL-7B-Instruct, 8.29 B parameters; MODEL_PATH chooses another.
# Versions: verl 0.9.1, vLLM 0.24.0, transformers 5.9.0.
# Hardware: 2 nodes (NNODES) of 8 GPUs of 80 GB.
# Memory: about 49 GiB per GPU in training and 48 in generation; 31 GiB of host memory per node (vqathinker plan).
# Run here: not run on this hardware.
set -euo pipefail
# sbatch runs a copy of this file from elsewhere.
ROOT=${SLURM_SUBMIT_DIR:-$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)}

NNODES=${NNODES:-${SLURM_JOB_NUM_NODES:-2}}
ROLE=${ROLE:-}                        # head or worker; empty: the cluster is up (RAY_ADDRESS), or Slurm starts it
HEAD=${HEAD:-}                        # address of the head node
PORT=${PORT:-6379}
JOIN_SECONDS=${JOIN_SECONDS:-600}     # how long the head waits for the others

run() {
  export NNODES MODEL_PATH=${MODEL_PATH:-Qwen/Qwen2.5-VL-7B-Instruct} EXPERIMENT=multi_node
  export OUTPUT_DIR=${OUTPUT_DIR:-outputs/multi_node}
  bash "$ROOT/recipes/run_vqathinker.sh" "$@"
}

if [ -n "${PLAN:-}" ] || { [ -z "$ROLE" ] && [ -n "${RAY_ADDRESS:-}" ]; }; then
  run "$@"
elif [ -z "$ROLE" ] && [ -n "${SLURM_JOB_ID:-}" ]; then
  HEAD=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
  export HEAD PORT NNODES JOIN_SECONDS ROOT
  # shellcheck disable=SC2016 # every task finds out for itself whether it is on the first node
  exec srun --ntasks-per-node=1 --kill-on-bad-exit=1 bash -c \
    'if [ "$SLURM_PROCID" = 0 ]; then export ROLE=head; else export ROLE=worker; fi
     exec bash "$ROOT/recipes/run_multi_node.sh" "$@"' task "$@"
elif [ -z "$ROLE" ] || [ -z "$HEAD" ]; then
  echo "vqathinker: set ROLE=head|worker and HEAD, or RAY_ADDRESS of a running cluster, or use sbatch (see the top of" \
    "recipes/run_multi_node.sh)" >&2
  exit 2
else
  DEVICE=${DEVICE:-gpu}
  bash "$ROOT/recipes/install.sh" "$DEVICE"
  if [ "$DEVICE" = gpu ]; then ENVIRONMENT=.venv-gpu; else ENVIRONMENT=.venv; fi
  export PATH="$ROOT/$ENVIRONMENT/bin:$PATH"
  # If a token exists, the head requires it. Ray's commands and runs with an address send it only with RAY_AUTH_MODE.
  if [ -f ~/.ray/auth_token ]; then export RAY_AUTH_MODE=${RAY_AUTH_MODE:-token}; fi
  SECONDS=0
  case $ROLE in
    worker)
      until ray start --address="$HEAD:$PORT"; do # the head may start later than this node
        if [ "$SECONDS" -gt "$JOIN_SECONDS" ]; then
          echo "vqathinker: no Ray head at $HEAD:$PORT within $JOIN_SECONDS s" >&2
          exit 1
        fi
        sleep 5
      done
      trap 'ray stop' EXIT
      # Wait until the head ends. One failure is tolerated, since a busy disk or too little memory may cause it.
      up() { ray status --address="$HEAD:$PORT" >/dev/null 2>&1; }
      while up || { sleep 30 && up; }; do sleep 30; done
      ;;
    head)
      ray start --head --node-ip-address="$HEAD" --port="$PORT"
      trap 'ray stop' EXIT
      export RAY_ADDRESS=$HEAD:$PORT
      COUNT='import ray; ray.init(logging_level="ERROR"); print(sum(node["Alive"] for node in ray.nodes()))'
      until joined=$(python -c "$COUNT") && [ "$joined" -ge "$NNODES" ]; do
        if [ "$SECONDS" -gt "$JOIN_SECONDS" ]; then
          echo "vqathinker: $joined of $NNODES nodes joined $RAY_ADDRESS within $JOIN_SECONDS s" >&2
          exit 1
        fi
        sleep 5
      done
      run "$@"
      ;;
    *)
      echo "vqathinker: ROLE=$ROLE; expected head or worker" >&2
      exit 2
      ;;
  esac
fi
