#!/usr/bin/env bash
# Makes a virtual environment beside the checkout, installs the package with its test tools, runs all checks.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
[ -x .venv/bin/python ] || "$python" -m venv .venv
.venv/bin/python -m pip install --quiet --editable '.[test]'
if ! .venv/bin/python -c 'from seed.wavecore.compiler import find_compiler; find_compiler()' 2>/dev/null; then
    if [ "$(id -u)" = 0 ]; then
        apt-get update -qq && apt-get install -y -qq clang >/dev/null
    else
        echo 'The kernels need clang: sudo apt install clang' >&2
        exit 2
    fi
fi
.venv/bin/python -m flake8 seed tests
exec .venv/bin/python -m pytest "$@"
