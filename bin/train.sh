#!/usr/bin/env bash
# Makes a virtual environment beside the checkout, installs seed and finds clang, then trains:
#   bin/train.sh --profile toy --minutes 3
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}
if ! [ -x "$root/.venv/bin/python" ]; then
    echo "making $root/.venv" >&2
    "$python" -m venv "$root/.venv" || { echo 'seed: no venv module: sudo apt install python3-venv' >&2; exit 2; }
fi
if ! "$root/.venv/bin/python" -c 'import seed, tinygrad, safetensors, ai_edge_litert' 2>/dev/null; then
    echo 'installing seed and what it needs' >&2
    "$root/.venv/bin/python" -m pip install --quiet --editable "$root"
fi
"$root/bin/find-clang.sh" "$root/.venv/bin/python"
exec "$root/.venv/bin/python" -m seed train "$@"
