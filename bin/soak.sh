#!/usr/bin/env bash
# Trains for long and watches memory, threads and files: bin/soak.sh --minutes 60 --profile seed
# Run bin/test.sh first: it makes .venv.
set -euo pipefail
cd "$(dirname "$0")/.."
[ -x .venv/bin/python ] || { echo 'seed: .venv is missing: run bin/test.sh first' >&2; exit 2; }
exec .venv/bin/python -m tests.soak.soak "$@"
