#!/usr/bin/env bash
# Runs on an emulated Cortex-A76 with Debian Bookworm: 20 training steps without a compiler, with a
# kernel set from here, whose checkpoint must equal this machine's bit for bit; exported files of a
# brain trained for 90 s, 10,000 steps in both TFLite runtimes; and the tests of kernels, model and
# checkpoints.
#   bin/check-arm64.sh [FOLDER]    where the emulated system is kept (default: build/arm64)
# Needs a Debian or Ubuntu host; as root it installs mmdebstrap, qemu-user-static and clang itself.
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/checkout.sh"
arm=$(realpath -m "${1:-$root/build/arm64}")
cd "$root"
host=${HOST_PYTHON:-.venv/bin/python}
[ -x "$host" ] || { echo 'seed: .venv is missing: run bin/test.sh first' >&2; exit 2; }

missing=()
command -v mmdebstrap >/dev/null || missing+=(mmdebstrap)
command -v qemu-aarch64-static >/dev/null || missing+=(qemu-user-static)
if [ ${#missing[@]} -gt 0 ]; then
    [ "$(id -u)" = 0 ] || { echo "seed: sudo apt install ${missing[*]}" >&2; exit 2; }
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}" >/dev/null
fi
bash bin/find-clang.sh "$host"
clang=$("$host" -c 'from seed.wavecore.compiler import find_compiler as f; print(f())')

mkdir -p "$arm/bin" "$arm/packages"
mirror=$({ grep -rhoE 'https?://[^ ]+/debian/?( |$)' /etc/apt/sources.list /etc/apt/sources.list.d 2>/dev/null || true; } | head -1)
[ -d "$arm/root" ] || mmdebstrap --quiet --variant=extract --architectures=arm64 \
    --include=python3,libstdc++6,libgcc-s1 bookworm "$arm/root" "${mirror:-http://deb.debian.org/debian}"
cat >"$arm/bin/python" <<SH
#!/bin/sh
export PYTHONPATH=$root:$arm/packages
exec qemu-aarch64-static -cpu cortex-a76 -L $arm/root -0 $arm/bin/python $arm/root/usr/bin/python3.11 "\$@"
SH
cat >"$arm/bin/cc" <<SH
#!/bin/sh
# The host's clang compiles for the board: "native" would mean the host.
for a; do shift; case \$a in -march=native|-mcpu=native) a=-mcpu=cortex-a76;; esac; set -- "\$@" "\$a"; done
exec $clang "\$@"
SH
chmod +x "$arm/bin/python" "$arm/bin/cc"
wheels=()
for tag in manylinux2014 manylinux_2_17 manylinux_2_24 manylinux_2_27 manylinux_2_28 manylinux_2_31 \
    manylinux_2_34 manylinux_2_35; do
    wheels+=(--platform "${tag}_aarch64")
done
requirements=$("$host" - <<'PY'
import configparser
config = configparser.ConfigParser()
config.read("setup.cfg")
print(*config["options"]["install_requires"].split(), "pytest", "autograd")
PY
)
install() {  # FOLDER REQUIREMENT...
    "$host" -m pip install --quiet --no-compile --upgrade --target "$arm/$1" --python-version 3.11 \
        --implementation cp --only-binary=:all: "${wheels[@]}" "${@:2}"
}
# shellcheck disable=SC2086
install packages $requirements
install packages-old 'numpy<2' tflite-runtime==2.14.0
# LiteRT reads the features of the CPU here; those of the host would crash it.
mkdir -p "$arm/root/proc"
for cpu in 0 1 2 3; do
    printf 'processor\t: %s\nFeatures\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x4\nCPU part\t: 0xd0b\nCPU revision\t: 1\n\n' $cpu
done >"$arm/root/proc/cpuinfo"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
options=(--profile toy --threads 2 --set curriculum.holdout_items=1)
train=(-m seed train "${options[@]}" --steps 20 --set train.eval_every_minutes=0)
"$host" "${train[@]}" --run-dir "$work/host" >/dev/null
"$host" -m seed kernels "${options[@]}" --cpu cortex-a76 --for train --out "$work/kernels"
CC=/nonexistent XDG_CACHE_HOME=/nonexistent SEED_KERNELS=$work/kernels \
    "$arm/bin/python" "${train[@]}" --run-dir "$work/arm" >/dev/null
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
"$host" -m seed train --profile toy --minutes 1.5 --run-dir "$work/trained" >/dev/null
"$host" -m tests.support.brains "$work/trained" "$work"
for file in "$work"/*.tflite; do
    for packages in packages packages-old; do
        sed "s#$arm/packages#$arm/$packages#" "$arm/bin/python" >"$arm/bin/python-$packages"
        chmod +x "$arm/bin/python-$packages"
        [[ $packages$file == *old*litert* ]] && continue
        printf 'arm64: %s: ' "$(basename "$file")"
        "$arm/bin/python-$packages" tests/support/judge.py "$file" "$work/expected.npz" 2>"$work/errors" ||
            { cat "$work/errors" >&2; exit 1; }
    done
done
CC=$arm/bin/cc XDG_CACHE_HOME=$work/cache exec "$arm/bin/python" -m pytest -q -p no:cacheprovider \
    tests/wavecore/test_fast.py tests/wavecore/test_model.py tests/storage/test_checkpoint.py \
    -k 'not (oracle and 16)'   # a batch of 16 takes too long in emulation
