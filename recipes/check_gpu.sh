#!/usr/bin/env bash
# Checks in about 15 minutes whether training works on this machine's GPUs, and writes one file and one page to send back.
#
#   bash recipes/check_gpu.sh                         # everything; results in outputs/check_gpu
#   WHEELS=/media/wheels bash recipes/check_gpu.sh    # installs from a folder of wheels, without a network
#   bash recipes/check_gpu.sh --only doctor demo      # some of the checks
#   DEVICE=cpu bash recipes/check_gpu.sh              # the same on the CPU stack, as far as it goes
#
# Checks: doctor; the demo in bf16 with its learning curve; two steps of a tiny Qwen2.5-VL, Qwen3-VL and InternVL3 with
# vLLM's sleep and wake; LoRA; the vision tower's varlen attention; the asynchronous trainers (separate_async with two
# GPUs). Of each: how it ended, seconds, the KV cache that vLLM had left, peak memory of the GPU. Needs one GPU of 24 GB.
# Not run on a GPU yet.
#
# Make the folder of wheels on a machine with a network:
#   pip download --no-deps --requirement requirements/gpu.txt --dest /media/wheels
#   pip download --no-deps --requirement requirements/test.txt --requirement requirements/ui.txt uv --dest /media/wheels
#   pip download --no-deps --requirement requirements/trl.txt --dest /media/wheels
#
# Variables: DEVICE (gpu or cpu; empty: gpu), OUTPUT_DIR (outputs/check_gpu), WHEELS
set -euo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

if [ "${1:-}" = "--help" ] || [ "${1:-}" = "-h" ]; then
  sed -n '2,/^set/p' "${BASH_SOURCE[0]}" | sed -n 's/^# \{0,1\}//p'
  exit 0
fi
export DEVICE=${DEVICE:-gpu}
if [ -n "${WHEELS:-}" ]; then
  if [ ! -d "$WHEELS" ]; then
    echo "vqathinker: WHEELS=$WHEELS: no such folder" >&2
    exit 2
  fi
  UV_FIND_LINKS=$(cd "$WHEELS" && pwd) # uv's own variables, and pip's for uv itself
  export UV_FIND_LINKS UV_NO_INDEX=1 PIP_FIND_LINKS=$UV_FIND_LINKS PIP_NO_INDEX=1
fi
bash "$ROOT/recipes/install.sh" "$DEVICE" test
if [ "$DEVICE" = gpu ]; then ENVIRONMENT=.venv-gpu; else ENVIRONMENT=.venv; fi
export PATH="$ROOT/$ENVIRONMENT/bin:$PATH" HF_HUB_OFFLINE=1
exec python "$ROOT/tests/check_gpu.py" --output-dir "${OUTPUT_DIR:-outputs/check_gpu}" "$@"
