#!/usr/bin/env bash
# find-clang.sh PYTHON [--sanitizers]: succeeds if a clang can be found, or installs one with apt
# where it may; with --sanitizers, its sanitizer runtimes too.
set -euo pipefail
python=$1
clang() { "$python" -c 'from seed.wavecore.compiler import find_compiler as f; print(f())' 2>/dev/null; }
sanitizers() { echo 'int main(void) { return 0; }' | "$(clang)" -fsanitize=address -x c - -o /dev/null 2>/dev/null; }
need() { # need PACKAGE REASON
    if [ "$(id -u)" = 0 ]; then as_root=; elif sudo -n true 2>/dev/null; then as_root='sudo -n'; else as_root=no; fi
    if command -v apt-get >/dev/null && [ "$as_root" != no ]; then
        echo "installing $1 with apt" >&2
        $as_root apt-get update -qq && $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$1" >/dev/null && return
    fi
    echo "seed: $2. Type: sudo apt install $1" >&2
    exit 2
}
clang >/dev/null || need clang 'no clang found to build the kernels'
if [ "${2:-}" = --sanitizers ] && ! sanitizers; then
    need "libclang-rt-$("$(clang)" -dumpversion | cut -d. -f1)-dev" 'the tests need the sanitizers of clang'
fi
