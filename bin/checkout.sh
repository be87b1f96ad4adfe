# shellcheck shell=bash
# Sourced by the scripts beside it. They find the checkout by their own place, and their Python runs its
# code, whatever the current folder, CDPATH and other environments hold.
root=$(dirname "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")")
venv=$root/.venv
unset CDPATH PYTHONHOME
export PYTHONSAFEPATH=1 PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
# pip installs into the environment that it belongs to, whatever pip.conf and variables say.
pip_install() { env -u PYTHONPATH -u PIP_TARGET -u PIP_PREFIX -u PIP_ROOT PIP_USER=0 "$1" -m pip install --quiet "${@:2}"; }
