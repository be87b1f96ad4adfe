#!/usr/bin/env bash
# Makes virtual environments in the checkout, installs what the tests need, runs all checks. Options go
# to pytest: bin/test.sh -m long
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/checkout.sh"
# Python compiles what is imported, and most is not: pip need not.
PIP_COMPILE=0 bash "$root/bin/install.sh" test
cd "$root"
# The older TFLite runtime, for tests of export: needs Python 3.11 and numpy below 2.
old=$(for p in .venv/bin/python python3.11; do
    "$p" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null && echo "$p" && break; done || true)
if [ -n "$old" ] && ! .venv-tflite/bin/python -c 'import numpy, tflite_runtime' 2>/dev/null; then
    "$old" -m venv --clear --without-pip .venv-tflite
    errors=$(PIP_COMPILE=0 PIP_PYTHON=.venv-tflite/bin/python \
        pip_install .venv/bin/python 'numpy<2' tflite-runtime==2.14.0 2>&1) || not_installed pip tflite-runtime "$errors"
fi
bash bin/find-clang.sh .venv/bin/python --sanitizers
.venv/bin/python -m flake8 seed tests bin examples
.venv/bin/python -m mypy
exec .venv/bin/python -m pytest -n 3 --dist loadfile "$@"   # two cores: some tests wait
