#!/usr/bin/env bash
# Makes virtual environments in the checkout, installs what the tests need, runs all checks. Options go
# to pytest: bin/test.sh -m long
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
[ -x .venv/bin/python ] || "$python" -m venv .venv
.venv/bin/python -m pip install --quiet --editable '.[test]'
# The older TFLite runtime, for tests of export: needs Python 3.11 and numpy below 2.
old=$(for p in .venv/bin/python python3.11; do
    "$p" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null && echo "$p" && break; done || true)
if [ -n "$old" ] && ! [ -x .venv-tflite/bin/python ]; then
    "$old" -m venv .venv-tflite
    .venv-tflite/bin/python -m pip install --quiet 'numpy<2' tflite-runtime==2.14.0
fi
bin/find-clang.sh .venv/bin/python --sanitizers
.venv/bin/python -m flake8 seed tests bin
.venv/bin/python -m mypy
exec .venv/bin/python -m pytest -n 2 --dist loadfile "$@"
