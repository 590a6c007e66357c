#!/usr/bin/env bash
# The test command: installs what it needs, checks the style, runs the tests.
#   bash tests/run.sh          units and the core end-to-end runs: under 30 minutes on 2 cores without a GPU
#   bash tests/run.sh --fast   without the end-to-end runs: about 4 minutes
#   bash tests/run.sh --all    also every recipe's start, the fault and the soak runs, however long; and the units on
#                              Python 3.12, in .venv-py3.12
# Further arguments go to pytest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

END_TO_END="e2e and not soak" SECOND_PYTHON=''
case "${1:-}" in
  --fast) END_TO_END=""; shift ;;
  --all) END_TO_END="e2e or soak" SECOND_PYTHON=3.12; shift ;;
  --help | -h) sed -n '2,7s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
esac

if nvidia-smi --list-gpus >/dev/null 2>&1; then DEVICE=gpu ENV=.venv-gpu; else DEVICE=cpu ENV=.venv; fi
bash recipes/install.sh "$DEVICE" test
BEFORE=$PATH
export PATH="$PWD/$ENV/bin:$PATH" HF_HUB_OFFLINE=1 OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

ruff check .
ruff format --check .
mypy vqathinker_verl
# The units on two cores; the end-to-end runs one after the other, since each of them fills the machine.
run() { python -m pytest "$@" || [ $? = 5 ]; } # 5: none of them was asked for
run -m "not e2e and not soak" --numprocesses 2 --dist loadfile "$@"
if [ -n "$END_TO_END" ]; then run -m "$END_TO_END" "$@"; fi
if [ -n "$SECOND_PYTHON" ]; then
  ENV=.venv-py$SECOND_PYTHON
  ENVIRONMENT=$ENV PYTHON_VERSIONS=$SECOND_PYTHON bash recipes/install.sh "$DEVICE" test
  PATH=$PWD/$ENV/bin:$BEFORE run -m "not e2e and not soak" --numprocesses 2 --dist loadfile "$@"
fi
