#!/usr/bin/env bash
# The whole story: finds the largest brain that this board can bear and feed in that time, then
# trains a small one that grows up to it, and ends with its profile (brain.toml) and a report. The
# same command goes on.
#   bin/grow.sh --minutes 60 --run-dir runs/grown
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
"$root/bin/install.sh"
exec "$root/.venv/bin/python" -m seed ascend "$@"
