#!/usr/bin/env bash
# Kills a training again and again and compares the bits: bin/storm.sh --kills 1000
# Run bin/test.sh first: it makes .venv.
set -euo pipefail
cd "$(dirname "$0")/.."
[ -x .venv/bin/python ] || { echo 'seed: .venv is missing: run bin/test.sh first' >&2; exit 2; }
exec .venv/bin/python -m tests.soak.storm "$@"
