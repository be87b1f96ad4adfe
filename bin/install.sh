#!/usr/bin/env bash
# Makes a virtual environment in the checkout, installs seed and its dependencies, and finds clang.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}
if ! [ -x "$root/.venv/bin/python" ]; then
    echo "making $root/.venv" >&2
    "$python" -m venv "$root/.venv" || { echo 'seed: python has no venv module: sudo apt install python3-venv' >&2; exit 2; }
fi
if ! "$root/.venv/bin/python" -c 'import seed, tinygrad, safetensors, ai_edge_litert' 2>/dev/null; then
    echo 'installing seed and its dependencies' >&2
    "$root/.venv/bin/python" -m pip install --quiet --editable "$root"
fi
exec "$root/bin/find-clang.sh" "$root/.venv/bin/python"
