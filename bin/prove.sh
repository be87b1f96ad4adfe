#!/usr/bin/env bash
# Proves what this board can do, for whoever wants to know: installs what is missing, trains for an
# hour, lives for ten minutes with the built-in cart-pole, and writes what was measured to proof.md and
# proof.json. Ctrl-C ends it with what there is; the same command continues.
#   bin/prove.sh [--minutes 60] [--live-minutes 10] [--run-dir runs/proof]
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/checkout.sh"
bash "$root/bin/install.sh"
exec "$venv/bin/python" -m seed.bench.prove "$@"
