#!/usr/bin/env bash
# Installs what is missing, then trains:
#   bin/train.sh --profile toy --minutes 3
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
"$root/bin/install.sh"
exec "$root/.venv/bin/python" -m seed train "$@"
