#!/usr/bin/env bash
# Runs on an emulated Cortex-A76 (Raspberry Pi 5):
# 1. 20 training steps without a compiler, with a kernel set from here, whose checkpoint must equal this
#    machine's bit for bit. A set that lacks a kernel is made by the command that the training names.
# 2. Exported files of a brain trained for 90 s: 10,000 steps in the TFLite runtimes.
# 3. Of the default suite, tests of kernels, model, checkpoints, bodies, exported files and the C brain (which:
#    see the end).
#
#   bin/check-arm64.sh [RELEASE [FOLDER]]
#     RELEASE    bookworm (Python 3.11, the default) or trixie (Python 3.13)
#     FOLDER     where the emulated systems and their kernels are kept (default: build/arm64); what an
#                earlier run that was killed left there half made is made anew
# Needs a Debian or Ubuntu host; as root it installs with apt what is missing.
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/checkout.sh"
fail() { echo "seed: $*" >&2; exit 2; }
release=${1:-bookworm}
case $release in
    bookworm) python=3.11 gcc=12 ;;
    trixie) python=3.13 gcc=14 ;;
    *) fail "$release: use bookworm or trixie" ;;
esac
arm=$(realpath -m "${2:-$root/build/arm64}/$release")
cd "$root"
host=${HOST_PYTHON:-.venv/bin/python}
[ -x "$host" ] || fail '.venv is missing: run bin/test.sh first'

missing=()
for tool in mmdebstrap:mmdebstrap qemu-aarch64-static:qemu-user-static \
    aarch64-linux-gnu-ld:binutils-aarch64-linux-gnu; do
    command -v "${tool%:*}" >/dev/null || missing+=("${tool#*:}")
done
if [ ${#missing[@]} -gt 0 ]; then
    [ "$(id -u)" = 0 ] || fail "sudo apt install ${missing[*]}"
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}" >/dev/null
fi
bash bin/find-clang.sh "$host"
clang=$("$host" -c 'from seed.wavecore.compiler import find_compiler as f; print(f())')
told=0
tell() { echo "arm64: $release: $*: $((SECONDS - told)) s"; told=$SECONDS; }

mkdir -p "$arm/bin" "$arm/kernels"
exec 9>"$arm/lock"
flock -n 9 || fail "$arm is in use: wait until the other run ends, or name another folder"
once() { # once NAME FACTS COMMAND...: makes $arm/NAME, unless it is there, whole and of the same facts
    [ "$(cat "$arm/$1.made" 2>/dev/null)" != "$2" ] || return 0
    rm -rf "${arm:?}/$1" "$arm/$1.made"
    "${@:3}"
    echo "$2" >"$arm/$1.made"
}
keep() { # keep FILE: standard input as a program, untouched if it is the same: kernels are cached by its date
    cat >"$1.new"
    if cmp -s "$1.new" "$1"; then rm "$1.new"; else chmod +x "$1.new" && mv "$1.new" "$1"; fi
}
mirror=$({ grep -rhoE 'https?://[^ ]+/debian/?( |$)' /etc/apt/sources.list /etc/apt/sources.list.d 2>/dev/null || true; } | head -1)
debs=python3,libstdc++6,libgcc-s1,libc6-dev,libgcc-$gcc-dev
unpack() {
    mmdebstrap --quiet --variant=extract --architectures=arm64 --include="$debs" "$release" "$arm/root" \
        "${mirror:-http://deb.debian.org/debian}"
    [ -e "$arm/root/lib" ] || ln -s usr/lib "$arm/root/lib"   # of Trixie, which base-files would make
}
once root "$release $debs" unpack
# LiteRT reads the features of the CPU here; those of the host would crash it.
mkdir -p "$arm/root/proc"
for cpu in 0 1 2 3; do
    printf 'processor\t: %s\nFeatures\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x4\nCPU part\t: 0xd0b\nCPU revision\t: 1\n\n' $cpu
done >"$arm/root/proc/cpuinfo"
emulated() { # emulated PROGRAM PACKAGES: an emulated Python; its bytecode halves the time of a start
    keep "$arm/bin/$1" <<SH
#!/bin/sh
export PYTHONPATH=$root:$arm/$2 PYTHONPYCACHEPREFIX=$arm/bytecode PYTHONDONTWRITEBYTECODE=
exec qemu-aarch64-static -cpu cortex-a76 -L $arm/root -0 $arm/bin/$1 $arm/root/usr/bin/python$python "\$@"
SH
}
emulated python packages
emulated python-old packages-old
keep "$arm/bin/cc" <<SH
#!/bin/sh
# The host's clang compiles for the board: "native" would mean the host. $("$clang" --version | head -1)
for a; do
    shift
    case \$a in -march=native|-mcpu=native) a=-mcpu=cortex-a76 ;; esac
    set -- "\$@" "\$a"
done
case " \$* " in
    *' --target='*|*' --version '*) ;;
    *) set -- --target=aarch64-linux-gnu --sysroot=$arm/root "\$@" ;;
esac
exec $clang "\$@"
SH
install() { # install FOLDER REQUIREMENT...
    local wheels=() tag
    for tag in manylinux2014 manylinux_2_17 manylinux_2_24 manylinux_2_27 manylinux_2_28 manylinux_2_31 \
        manylinux_2_34 manylinux_2_35; do
        wheels+=(--platform "${tag}_aarch64")
    done
    "$host" -m pip install --quiet --no-compile --target "$arm/$1" --python-version $python \
        --implementation cp --only-binary=:all: "${wheels[@]}" "${@:2}"
}
requirements=$("$host" - <<'PY'
import configparser
config = configparser.ConfigParser()
config.read("setup.cfg")
print(*config["options"]["install_requires"].split(), "pytest", "autograd")
PY
)
# shellcheck disable=SC2086
once packages "$python $requirements" install packages $requirements
old=('numpy<2' tflite-runtime==2.14.0)
if [ "$release" = bookworm ]; then
    once packages-old "$python ${old[*]}" install packages-old "${old[@]}"
else
    old=()
    echo "arm64: $release: tflite-runtime has no wheel for Python $python: files run in ai-edge-litert alone"
fi
tell 'the emulated system'

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
options=(--profile toy --threads 2 --set curriculum.holdout_items=1)
train=(-m seed train "${options[@]}" --steps 20 --set train.eval_every_minutes=0)
"$host" "${train[@]}" --run-dir "$work/host" >/dev/null
kernels=$arm/kernels/clang-$("$clang" -dumpversion)
"$host" - "$kernels" <<'PY'
import sys
from pathlib import Path
from seed.wavecore import kernel_set
from seed.wavecore.cpu import find_target
folder = Path(sys.argv[1])
folder.mkdir(exist_ok=True)
empty = kernel_set.KernelSet(find_target("cortex-a76"), "", "", {})
kernel_set.write(folder / "empty.kernels", empty)   # without any set only a compiler would be asked for
PY
train_there() {
    CC=/nonexistent XDG_CACHE_HOME=/nonexistent SEED_KERNELS=$kernels \
        "$arm/bin/python" "${train[@]}" --run-dir "$work/arm" >/dev/null
}
if ! train_there 2>"$work/errors"; then
    tail -1 "$work/errors" >&2
    command=$(sed -n '$s/.*run seed \(kernels --cpu=cortex-a76 \)/\1/p' "$work/errors")
    [ -n "$command" ] || exit 1
    SEED_KERNELS=$kernels xargs "$host" -m seed <<<"$command"
    tell 'kernels that were missing'
    train_there
fi
"$host" - "$work" <<'PY'
import sys
from pathlib import Path
import numpy as np
from seed.storage import RunDir, checkpoint
a, b = (checkpoint.read(RunDir(Path(sys.argv[1]) / side).checkpoint).tensors for side in ("host", "arm"))
differ = {key: float(np.abs(a[key] - b[key]).max()) for key in a if not np.array_equal(a[key], b[key])}
print(f"arm64: {len(a) - len(differ)} of {len(a)} tensors are equal bit for bit after 20 steps")
if differ:
    sys.exit(f"arm64: different: {dict(sorted(differ.items(), key=lambda d: -d[1])[:5])}")
PY
tell '20 steps without a compiler'

"$host" -m seed train --profile toy --minutes 1.5 --run-dir "$work/trained" >/dev/null
"$host" -m tests.support.brains "$work/trained" "$work"
tell 'a brain and its files'
for file in "$work"/*.tflite; do
    for program in python ${old:+python-old}; do
        [[ $program$file == *old*litert* ]] && continue
        printf 'arm64: %s: ' "$(basename "$file")"
        "$arm/bin/$program" tests/support/judge.py "$file" "$work/expected.npz" 2>"$work/errors" ||
            { cat "$work/errors" >&2; exit 1; }
        tell "$(basename "$file") in $program"
    done
done
# Of each kind the tests that show most in a few minutes of emulation: the oracle's with a batch of 16, the
# optimizers' and whole trainings in bodies take too long, and the older runtime has no Python of its own here.
tests=(tests/wavecore/test_fast.py tests/wavecore/test_ticks.py tests/wavecore/test_model.py
    tests/storage/test_checkpoint.py tests/body/test_codec.py tests/export/test_graph.py
    tests/export/test_acting_state.py tests/c_brain/test_c_brain.py)
CC=$arm/bin/cc XDG_CACHE_HOME=$arm/cache "$arm/bin/python" -m pytest -q -p no:cacheprovider --durations=10 \
    "${tests[@]}" -k 'not (oracle and 16) and not old_runtime'
tell 'tests'
