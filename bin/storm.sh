#!/usr/bin/env bash
# Kills a training again and again and compares the bits: bin/storm.sh --kills 1000
# With faults of every kind instead of kills alone: bin/storm.sh --minutes 60
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/checkout.sh"
bash "$root/bin/install.sh" test
cd "$root"
exec "$venv/bin/python" -m tests.soak.storm "$@"
