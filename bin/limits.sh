#!/usr/bin/env bash
# Trains at limits that `python -m seed scale` found, and one size above: bin/limits.sh --minutes 10
# Run bin/test.sh first: it makes .venv.
set -euo pipefail
cd "$(dirname "$0")/.."
[ -x .venv/bin/python ] || { echo 'seed: .venv is missing: run bin/test.sh first' >&2; exit 2; }
exec .venv/bin/python -m tests.soak.limits "$@"
