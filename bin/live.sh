#!/usr/bin/env bash
# Installs what is missing, then lets a trained brain act in its body, and learn there:
#   bin/live.sh --run-dir runs/live --body cartpole
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/checkout.sh"
bash "$root/bin/install.sh"
exec "$venv/bin/python" -m seed live "$@"
