#!/usr/bin/env bash
# Runs every attack and bug report that the tests repeat, and prints how many were tried, held and
# failed: bin/attacks.sh [-k NAME]. Some need root, for mounts and name spaces of their own.
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/checkout.sh"
bash "$root/bin/install.sh" test
cd "$root"
exec "$venv/bin/python" -m pytest -q -p no:cacheprovider -m attack "$@" tests
