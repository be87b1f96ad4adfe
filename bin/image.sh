#!/usr/bin/env bash
# Makes a folder for a robot's image: all that Python needs there, and a list of it, DIR/FILES.
#   bin/image.sh inference DIR [CPU]               to run exported files: seed/runtime, tflite-runtime
#   bin/image.sh training DIR [CPU] [OPTION...]    to train without a compiler: seed, what it needs, and
#                                                  the kernels of `seed kernels OPTION...`
# The packages are those of examples/image/inference.txt and training.txt, in their versions.
# CPU: cortex-a76, x86-64-v3 or native, the default. IMAGE_PYTHON: the image's Python, 3.11 by default.
# In the image: PYTHONPATH=DIR python3 -P -m seed ...; inference needs numpy below 2 beside it.
set -euo pipefail
. "$(dirname "$(readlink -f "$0")")/checkout.sh"
fail() { echo "seed: $*" >&2; exit 2; }
kind=${1-} out=${2-} cpu=${3-native}
case $kind in inference|training) ;; *) fail "bin/image.sh ${kind:-without a kind}: use inference or training" ;; esac
[ -n "$out" ] || fail "bin/image.sh $kind: name the folder to make"
[ ! -e "$out" ] || fail "$out exists: use another name, or delete it"
[ -d "$(dirname "$out")" ] || fail "$out: $(dirname "$out") is not a directory: create it first"
case $cpu in
    cortex-a76) machine=aarch64 ;;
    x86-64-v3) machine=x86_64 ;;
    native) machine=$(uname -m) ;;
    *) fail "$cpu: use cortex-a76, x86-64-v3 or native" ;;
esac
host=${HOST_PYTHON:-$root/.venv/bin/python}
[ -x "$host" ] || fail '.venv is missing: run bin/install.sh first'
part=$(realpath -m "$out").partial
rm -rf "$part"
mkdir "$part"
trap 'rm -rf "$part" "$part.FILES"' EXIT

install() { # REQUIREMENT...: wheels for the board, without what they depend on
    local wheels=() tag
    for tag in manylinux2014 manylinux_2_17 manylinux_2_24 manylinux_2_27 manylinux_2_28 \
        manylinux_2_31 manylinux_2_34; do
        wheels+=(--platform "${tag}_$machine")
    done
    "$host" -m pip install --quiet --no-compile --no-deps --target "$part" --implementation cp \
        --python-version "${IMAGE_PYTHON:-3.11}" --only-binary=:all: "${wheels[@]}" "$@"
    rm -rf "$part/bin"
}

if [ "$kind" = inference ]; then
    install "$(grep '^tflite-runtime' "$root/examples/image/inference.txt")"
    mkdir "$part/seed"
    cp -r "$root/seed/runtime" "$part/seed/"
    echo '"""What a robot needs of seed-brain: seed.runtime."""' >"$part/seed/__init__.py"
else
    install -r "$root/examples/image/training.txt"
    cp -r "$root/seed" "$part/seed"
    rm -rf "$part/seed/wavecore/built"
    cp -r "$root/profiles" "$part/seed/profiles"
    # Of other devices, for tests and for compilers; what a training does not use of numpy.
    find "$part/tinygrad/runtime/autogen" -mindepth 1 -maxdepth 1 \
        ! -name __init__.py ! -name libc.py -exec rm -rf {} +
    # All that tinygrad imports of it; it would read a table of Mesa, a GPU library, of 0.9 MB.
    echo 'class LVPRenderer: pass' >"$part/tinygrad/renderer/nir.py"
    find "$part/tinygrad/runtime" -maxdepth 1 -name 'ops_*' \
        ! -name ops_cpu.py ! -name ops_npy.py ! -name ops_python.py -delete
    rm -rf "$part"/seed/experiments "$part"/tinygrad/{viz,llm,renderer/amd,nn/{onnx,torch}.py} \
        "$part"/safetensors/{torch,tensorflow,flax,paddle,mlx}.py \
        "$part"/tinygrad/runtime/{graph,support/{am,nv,mlx,usb.py,system.py,autogen.py}} \
        "$part"/numpy/{f2py,typing,distutils,testing,ma,polynomial,fft} \
        "$part"/numpy/_core/{include,lib,_simd*,*_tests*.so}
    find "$part/numpy" \( -name tests -o -name _examples \) -prune -exec rm -rf {} +
    find "$part" \( -name '*.pyi' -o -name '*.a' -o -name '*.pxd' -o -name RECORD \) -delete
    PYTHONPATH=$root "$host" -P -m seed kernels --cpu "$cpu" --out "$part/seed/wavecore/built" "${@:4}"
fi
find "$part" -name __pycache__ -prune -exec rm -rf {} +
chmod -R go-w "$part"
(cd "$part" && find . -type f -printf '%s %P\n' | sort -k2) >"$part.FILES"
mv "$part.FILES" "$part/FILES"
mv "$part" "$out"
awk -v out="$out" '{ total += $1 } END { printf "%s: %d files, %.1f MB\n", out, NR, total / 1e6 }' "$out/FILES"
