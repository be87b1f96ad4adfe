#!/usr/bin/env bash
# Finds the largest size that this board holds and has the time to train, then trains a small brain
# that grows up to it. Ends with its profile (brain.toml) and a report. The same command resumes.
#   bin/grow.sh --minutes 60 --run-dir runs/grown
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/checkout.sh"
bash "$root/bin/install.sh"
exec "$venv/bin/python" -m seed train --grow "$@"
