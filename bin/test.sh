#!/usr/bin/env bash
# Makes a virtual environment beside the checkout, installs what the tests need, runs all checks.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
[ -x .venv/bin/python ] || "$python" -m venv .venv
.venv/bin/python -m pip install --quiet --editable '.[test]'
bin/find-clang.sh .venv/bin/python --sanitizers
.venv/bin/python -m flake8 seed tests
.venv/bin/python -m mypy
exec .venv/bin/python -m pytest "$@"
