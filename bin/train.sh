#!/usr/bin/env bash
# Installs what is missing, then trains:
#   bin/train.sh --profile toy --minutes 3
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/checkout.sh"
bash "$root/bin/install.sh"
exec "$venv/bin/python" -m seed train "$@"
