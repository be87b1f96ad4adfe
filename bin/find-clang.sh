#!/usr/bin/env bash
# find-clang.sh PYTHON [--sanitizers] [--yes]: succeeds if a clang can be found, or installs one with
# apt where it may: as root, or with sudo if a person says so or --yes; with --sanitizers, its sanitizer
# runtimes too.
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/checkout.sh"
python=$1 options=("${@:2}")
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
may_use_sudo() { # PACKAGE
    case " ${options[*]} " in *' --yes '*) return ;; esac
    [ -t 0 ] && [ -t 2 ] || return
    read -r -p "seed needs $1: may sudo install it with apt? [y/N] " answer
    case $answer in [yY]*) ;; *) return 1 ;; esac
}
need() { # need PACKAGE REASON
    local as_root=no
    if [ "$(id -u)" = 0 ]; then as_root=; elif sudo -n true 2>/dev/null && may_use_sudo "$1"; then as_root='sudo -n'; fi
    if command -v apt-get >/dev/null && [ "$as_root" != no ]; then
        echo "installing $1 with apt" >&2
        tell_seconds 'downloads of some 100 MB'
        local errors
        errors=$({ $as_root apt-get update -qq && $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$1"; } 2>&1) && stop_telling && return
        stop_telling
        not_installed apt "$1" "$errors"
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
if [[ " ${options[*]} " == *' --sanitizers '* ]] && ! sanitizers; then
    need "libclang-rt-$("$(clang)" -dumpversion | cut -d. -f1)-dev" 'the tests need the sanitizers of clang'
fi
