#!/usr/bin/env bash
# install.sh [--yes] [EXTRA]: makes a virtual environment in the checkout, .venv, with $PYTHON or
# python3; installs seed and the packages that setup.cfg names there, and finds clang. An environment
# that is half made, or whose Python has gone, is made anew. It asks before it uses sudo; not with --yes.
# install.sh --remove: takes away what it has put into the checkout, and says what stays.
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/checkout.sh"
python=${PYTHON:-python3} option=
case ${1:-} in --yes|--remove) option=$1; shift ;; esac
fail() { echo "seed: $*" >&2; exit 2; }
# On a full disk Python cuts its bytecode short, and fails with it even when there is room again: none stays.
fail_on_full_disk() {
    find "$root/seed" "$root/bin" "$venv" -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
    fail "the disk of $root is full: free 300 MB and try again"
}
missing() { PYTHONPATH='' "$venv/bin/python" "$root/bin/environment.py" "$root" "$@"; }

make_venv() {
    [ ! -L "$venv" ] || fail "$venv is a link to an environment without pip or Python: mend it there, or delete the link"
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        fail "$python is not Python 3.11 or newer: name one, such as PYTHON=python3.11 $0"
    local free_kb
    free_kb=$(df -Pk "$root" | awk 'END { print $4 }')
    [ "${free_kb:-300000}" -ge 300000 ] || fail_on_full_disk
    echo "making $venv" >&2
    tell_seconds 'some 20 MB'
    "$python" -m venv "$venv" --clear || fail "$venv cannot be made, see above; on Debian: sudo apt install python3-venv"
    stop_telling
}

runs_programs() { # in the checkout: libraries of packages cannot be loaded either where it is mounted noexec
    local probe code=0
    probe=$(mktemp "$root/.runs.XXXXXX") || return
    printf '#!/bin/sh\n' >"$probe" && chmod +x "$probe" && "$probe" 2>/dev/null || code=$?
    rm -f "$probe"
    return "$code"
}

mend() {
    local lacks code=0
    [ -L "$venv" ] || runs_programs ||
        fail "$root is mounted noexec, so that no package can be loaded from it: put the environment elsewhere: $python -m venv /opt/seed-venv && ln -s /opt/seed-venv '$venv'"
    lacks=$(missing "$@" 2>/dev/null) || code=$?
    case $code in 0|3) ;; *) make_venv; lacks=$(missing "$@") || true ;; esac
    [ -n "$lacks" ] || return 0
    told "installing ${lacks//$'\n'/, }"
    tell_seconds 'downloads of some 50 MB, then files of 200 MB'
    local folder errors
    folder=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    rm -f "$folder/seed-brain.pth"
    errors=$(pip_install "$venv/bin/python" --editable "$root${1:+[$1]}" 2>&1) && stop_telling && return 0
    stop_telling
    case $errors in *'No space left'*|*'quota exceeded'*|*'File too large'*) fail_on_full_disk ;; esac
    # A checkout that was moved or copied needs no network: only its new place is told.
    echo "$root" >"$folder/seed-brain.pth"
    lacks=$(missing "$@" | grep -v '^seed-brain of ' || true)
    [ -z "$lacks" ] || not_installed pip "${lacks//$'\n'/, }" "$errors"
}

remove() {
    local used cache=${XDG_CACHE_HOME:-${HOME:-}/.cache}/seed-brain
    # By libraries that are loaded from it: without the rest of it a process would fail later.
    used=$(grep -lsF " $(readlink -f "$venv")/" /proc/[0-9]*/maps | tr -cd '0-9\n' | paste -sd ' ') || true
    [ -w "$root" ] || fail "$(id -un) may not write to $root: remove it as its owner"
    [ -z "$used" ] || fail "$venv is used by process $used: end it first, and try again"
    rm -rf "$venv" "$root/.venv-tflite" "$root/.venv.lock" "$root/seed_brain.egg-info"
    echo "removed the environments of $root; what stays: the checkout with its runs, compiled kernels in $cache, and clang" >&2
}

if [ "$option" = --remove ]; then remove; exit; fi
if ! missing "$@" >/dev/null 2>&1; then   # one at a time
    [ -w "$root" ] || fail "$(id -un) may not write to $root, where packages have to be installed: use a checkout of your own: git clone '$root' ~/seed-brain"
    (flock 9 2>/dev/null || true; mend "$@" 9>&-) 9>"$root/.venv.lock"
fi
exec bash "$root/bin/find-clang.sh" "$venv/bin/python" $option
