#!/usr/bin/env bash
# Limits that hold: bin/limits.sh --minutes 10. Run bin/test.sh first, it makes .venv.
set -euo pipefail
cd "$(dirname "$0")/.."
[ -x .venv/bin/python ] || { echo 'seed: run bin/test.sh first, it makes .venv' >&2; exit 2; }
exec .venv/bin/python -m tests.soak.limits "$@"
