#!/usr/bin/env bash
# Measures the tables of docs/results.md again: bin/results.sh, or bin/results.sh profiles bench.
# Needs a quiet machine and about ten minutes.
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/checkout.sh"
bash "$root/bin/install.sh"
cd "$root"
exec "$venv/bin/python" bin/results.py "$@"
