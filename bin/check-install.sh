#!/usr/bin/env bash
# Installs the committed tree into fresh virtual environments, with every Python from 3.11 on that is
# on PATH, numpy 1.26 (where it exists for that Python) and the newest, and trains outside the
# checkout with every clang that is on PATH.
set -euo pipefail
root=$(dirname "$(dirname "$(readlink -f "$0")")")
unset CDPATH PYTHONHOME PYTHONPATH PIP_TARGET PIP_PREFIX PIP_ROOT   # what runs is the installed code
export PYTHONSAFEPATH=1 PIP_USER=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/tree"
git -C "$root" archive HEAD | tar -x -C "$work/tree"
compilers=$(compgen -c clang | grep -xE 'clang(-[0-9]+)?' | sort -u)
cd "$work"
checked=0
for version in 3.11 3.12 3.13; do
    "python$version" -c '' 2>/dev/null || { echo "python$version: not here"; continue; }
    for numpy in 'numpy==1.26.*' 'numpy>=2'; do
        if [ "$version" = 3.13 ] && [ "$numpy" = 'numpy==1.26.*' ]; then continue; fi # never released
        rm -rf venv
        "python$version" -m venv venv
        venv/bin/python -m pip install --quiet "$numpy" ./tree
        for compiler in $compilers; do
            rm -rf run
            CC=$compiler venv/bin/python -W error::DeprecationWarning:seed -m seed train --profile fast --steps 3 \
                --run-dir run --set curriculum.holdout_items=1 >out 2>err || { cat err; exit 1; }
            venv/bin/python - "$compiler" <<'PY'
import hashlib, pathlib, platform, sys, numpy, seed
assert "venv" in seed.__file__, seed.__file__
digest = hashlib.sha256(pathlib.Path("run/checkpoint.safetensors").read_bytes()).hexdigest()
print(f"Python {platform.python_version():<8}numpy {numpy.__version__:<8}{sys.argv[1]:<10}weights {digest[:12]}")
PY
            checked=$((checked + 1))
        done
    done
done
[ "$checked" -gt 0 ] || { echo 'seed: no Python 3.11 or newer, or no clang, on PATH' >&2; exit 2; }
echo "install: $checked combinations trained"
