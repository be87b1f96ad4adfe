#!/usr/bin/env bash
# find-clang.sh PYTHON: succeeds if a clang can be found, or installs one with apt where it may.
set -euo pipefail
have() { "$1" -c 'from seed.wavecore.compiler import find_compiler as f; f()' 2>/dev/null; }
have "$1" && exit 0
if command -v apt-get >/dev/null; then
    if [ "$(id -u)" = 0 ]; then as_root=; elif sudo -n true 2>/dev/null; then as_root='sudo -n'; else as_root=no; fi
    if [ "$as_root" != no ]; then
        echo 'installing clang with apt' >&2
        $as_root apt-get update -qq && $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq clang >/dev/null
        have "$1" && exit 0
    fi
fi
echo 'seed: no clang found to build the kernels. Type: sudo apt install clang' >&2
exit 2
