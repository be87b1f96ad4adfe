#!/usr/bin/env bash
# Trains at limits that `python -m seed scale` found, and one size above: bin/limits.sh --minutes 10
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/checkout.sh"
bash "$root/bin/install.sh" test
cd "$root"
exec "$venv/bin/python" -m tests.soak.limits "$@"
