#!/usr/bin/env bash
# find-clang.sh PYTHON [--sanitizers]: succeeds if a clang can be found, or installs one with apt
# where it may; with --sanitizers, its sanitizer runtimes too.
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/checkout.sh"
python=$1
clang() { # ends with 3 if there is none, 2 if $CC names none; all else is a failure of Python
    "$python" - <<'PY'
import os, shutil, sys
from seed.errors import CompilerError
from seed.wavecore.compiler import find_compiler
try:
    print(find_compiler())
except CompilerError as error:
    named = os.environ.get("CC")
    if not named or shutil.which(named):
        sys.exit(3)
    print(f"seed: {error}", file=sys.stderr)
    sys.exit(2)
PY
}
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
code=0
clang >/dev/null || code=$?
case $code in
    0) ;;
    3) need clang 'no clang found to build the kernels' ;;
    *) exit "$code" ;;
esac
if [ "${2:-}" = --sanitizers ] && ! sanitizers; then
    need "libclang-rt-$("$(clang)" -dumpversion | cut -d. -f1)-dev" 'the tests need the sanitizers of clang'
fi
