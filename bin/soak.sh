#!/usr/bin/env bash
# Trains for long and watches memory, threads and files: bin/soak.sh --minutes 60 --profile seed
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/checkout.sh"
bash "$root/bin/install.sh" test
cd "$root"
exec "$venv/bin/python" -m tests.soak.soak "$@"
