# shellcheck shell=bash
# Sourced by the scripts beside it. They find the checkout by their own place, and their Python runs its
# code, whatever the current folder, CDPATH and other environments hold.
root=$(dirname "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")")
venv=$root/.venv
unset CDPATH PYTHONHOME
export PYTHONSAFEPATH=1 PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
# tell_seconds WORDS: beside what is to come, each second, where a person looks on. It ends with this script.
teller=
tell_seconds() {
    [ -t 2 ] || return 0
    local words=$1 began=$SECONDS
    while sleep 1 && kill -0 $$ 2>/dev/null; do printf '\r\033[K%s: %d s' "$words" $((SECONDS - began)) >&2; done &
    teller=$!
    trap stop_telling EXIT
}
stop_telling() {
    [ -n "$teller" ] || return 0
    kill "$teller" 2>/dev/null || true
    wait "$teller" 2>/dev/null || true
    printf '\r\033[K' >&2
    teller=
}
# told WORDS: a line of what is done, within the width of a terminal.
told() {
    local columns=
    [ ! -t 2 ] || columns=$(stty size <&2 2>/dev/null | cut -d' ' -f2) || true
    if [ "${columns:-0}" -gt 0 ]; then fold -s -w "$columns" <<<"$*" >&2; else echo "$*" >&2; fi
}
# pip installs into the environment that it belongs to, whatever pip.conf and variables say.
pip_install() { env -u PYTHONPATH -u PIP_TARGET -u PIP_PREFIX -u PIP_ROOT PIP_USER=0 "$1" -m pip install --quiet "${@:2}"; }
# not_installed PROGRAM NAMES TEXT: ends with one line; the many of the program itself are kept beside.
not_installed() {
    local log=$venv/$1.log
    printf '%s\n' "$3" 2>/dev/null >"$log" || true
    echo "seed: $1 has not installed $2: connect to the network and try again; what it says is in $log" >&2
    exit 2
}
