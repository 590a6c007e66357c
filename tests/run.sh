#!/usr/bin/env bash
# The test command: installs what it needs, checks the style, runs the tests.
#   bash tests/run.sh          units and the core end-to-end runs: under 30 minutes on 2 cores without a GPU
#   bash tests/run.sh --fast   without the end-to-end runs: under 2 minutes
#   bash tests/run.sh --all    also every recipe's start, the fault and the soak runs, however long
# Further arguments go to pytest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

END_TO_END="e2e and not soak"
case "${1:-}" in
  --fast) END_TO_END=""; shift ;;
  --all) END_TO_END="e2e or soak"; shift ;;
  --help | -h) sed -n '2,6s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
esac

if nvidia-smi --list-gpus >/dev/null 2>&1; then DEVICE=gpu; else DEVICE=cpu; fi
bash recipes/install.sh "$DEVICE" test
export PATH="$PWD/.venv/bin:$PATH" HF_HUB_OFFLINE=1 OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

ruff check .
ruff format --check .
mypy vqathinker_verl/parsing.py vqathinker_verl/prompts.py vqathinker_verl/metrics \
  vqathinker_verl/perturbations.py vqathinker_verl/rewards
# The units on two cores; the end-to-end runs one after the other, since each of them fills the machine.
run() { python -m pytest "$@" || [ $? = 5 ]; } # 5: none of them was asked for
run -m "not e2e and not soak" --numprocesses 2 --dist loadfile "$@"
if [ -n "$END_TO_END" ]; then run -m "$END_TO_END" "$@"; fi
