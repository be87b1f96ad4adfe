"""Golden hashes: trainings, resizing and exported files give the bits that they gave before.

    python -m tests.soak.same_bits [--only NAME] [--folder KEEP]

Each case runs the commands as a user types them, with one thread, and compares the sha256 of the
named weights (or of an exported file without its metadata) to the recorded one. A change that is
meant to change bits renews the hashes once, and the CHANGELOG says so. All cases take about three
minutes of one core; tests/training/test_golden_bits.py runs the shortest.
"""
import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import flatbuffers
import safetensors.numpy
from ai_edge_litert import schema_py_generated as schema

ROOT = Path(__file__).parents[2]
# Trainings: recorded when weight gradients moved into the row tiles, with clang 14 and AVX-512;
# AVX2 gives the same. Exported files: when both targets got one graph.
GOLDEN = {
    "toy": "551cfa5ec085a4595f0d61f33810fddc2bd610183944832c622f28c94ed2ca6b",
    "seed": "0057c416a28683ae7b7d720da859ca8ccd38dfc10497c66d00315b68fe03285c",
    "practice": "1063880f1c096e2dc1a7934ef6919598bf9af41b889ab0ac95ae4124f89c29ed",
    "shrink": "07947f4528b2fe61e5d3a54a9cbe30f543821ca1ba10d4280e4116aee69ddd6c",
    "grow": "b6f4a5f7e7c4de1299b6e6cb30549b278dd13d398de1260d3b6a0ed06fa13ecd",
    "adapt": "bb194afeac0e78413380dcaea1a27a881d30abc6587aeb9100e77e80c38b4774",
    "portable": "2df403c2c842d5d2db618b1b00eae12c295b01d8159526f698e881e42408b283",
    "int8": "692d467633e65ce2bd60f1f3499534375230789e3dacee1d1e3eb89a6bfaec53",
    "float16": "cc1dc12e53c2dd32847c77367a3bd66cc098175c7e00c667eab2dbae7b3163f5",
    "short": "ae3b8fb320513cbc4cf54cfc686ad33ef54354e6e41ef4f63dc72632f065de19",
    "turns": "032f04185ffb37f84e2e038f251327a2529906c485647b823b09cba8be1315a1",
    "short portable": "9e3f971c6c12f812dfaad76fd9d8ca251bd16c63e442d97c6b31e812ec36deea",
    "short int8": "0f7c1efeb8da7b8e901a5b50d6701a272446ae718a23679d19af544c47ca974f",
}
INT8 = ("int8", "--int8", "--target", "litert", "--prefill", 16)
MOMENTS = ("m.", "v.", "optim.")   # keys of the optimizer in a checkpoint


def seed(*arguments: str | Path) -> None:
    """Runs a command of seed, which has to end with 0."""
    subprocess.run([sys.executable, "-m", "seed", *map(str, arguments)], check=True, cwd=ROOT,
                   env={**os.environ, "PYTHONPATH": str(ROOT)})


def weights_sha256(run_dir: Path) -> str:
    """Hash of all named weights: names, shapes and bytes, in the order of the names."""
    tensors = safetensors.numpy.load_file(run_dir / "checkpoint.safetensors")
    digest = hashlib.sha256()
    for key in sorted(tensors):
        if not key.startswith(MOMENTS):
            digest.update(f"{key}{tensors[key].shape}".encode() + tensors[key].tobytes())
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    """Hash of a TFLite file, packed again without its metadata and the names within its graphs."""
    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    for graph in model.subgraphs:
        for i, tensor in enumerate(graph.tensors):
            if i not in graph.inputs and i not in graph.outputs:
                tensor.name = b""
    for entry in model.metadata:
        model.buffers[entry.buffer].data = None
    model.metadata = None
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), b"TFL3")
    return hashlib.sha256(builder.Output()).hexdigest()


def train(run_dir: Path, profile: str, steps: int, *options: str) -> None:
    """A brain that several cases start from is trained once."""
    if not run_dir.exists():
        seed("train", "--profile", profile, "--steps", steps, "--threads", 1, "--run-dir", run_dir,
             *options)


def short(folder: Path) -> str:
    train(folder / "short", "toy", 40, "--set=curriculum.eval_every_steps=20")
    return weights_sha256(folder / "short")


def turns(folder: Path) -> str:
    train(folder / "turns", "toy", 40, "--set=curriculum.eval_every_steps=20",
          "--set=model.rotary_steps=120")
    return weights_sha256(folder / "turns")


def toy(folder: Path) -> str:
    train(folder / "toy", "toy", 300)
    return weights_sha256(folder / "toy")


def seed_profile(folder: Path) -> str:
    train(folder / "seed", "seed", 100)
    return weights_sha256(folder / "seed")


def practice(folder: Path) -> str:
    """Self-play by rule and by vote, questions of its own, and a mock teacher."""
    settings = [
        "selfplay.tasks={parity=4,copy=4}", "selfplay.every_steps=50", "selfplay.questions=16",
        "selfplay.max_entropy=6", "selfplay.propose_fraction=0.3", "selfplay.temperature=0.5",
        "selfplay.votes=2", "curriculum.eval_every_steps=0", "teacher.kind=mock",
        "teacher.tasks={add=1.0}"]
    seed("train", "--profile", "toy", "--steps", 260, "--threads", 1, "--run-dir",
         folder / "practice", *(word for text in settings for word in ("--set", text)))
    return weights_sha256(folder / "practice")


def shrink(folder: Path) -> str:
    train(folder / "seed", "seed", 100)
    if not (folder / "shrunk").exists():
        seed("shrink", "--run-dir", folder / "seed", "--out", folder / "shrunk", "--profile",
             "fast", "--steps", 20, "--threads", 1, "--set", "distill.batches=8")
    return weights_sha256(folder / "shrunk")


def grow(folder: Path) -> str:
    train(folder / "toy", "toy", 300)
    shutil.copytree(folder / "toy", folder / "grown")
    seed("grow", "--run-dir", folder / "grown", "--to", "seed", "--threads", 1)
    return weights_sha256(folder / "grown")


def adapt(folder: Path) -> str:
    train(folder / "toy", "toy", 300)
    shutil.copytree(folder / "toy", folder / "adapted")
    examples = [{"prompt": f"{a}@{b}=", "answer": str(a + 2 * b)}
                for a in range(2, 42) for b in range(3, 8)]
    (folder / "examples.jsonl").write_text("".join(f"{json.dumps(e)}\n" for e in examples))
    seed("adapt", "--run-dir", folder / "adapted", "--data", folder / "examples.jsonl", "--steps",
         40, "--threads", 1, "--min-gain", 0, "--max-loss", 100)
    return weights_sha256(folder / "adapted")


def export(run_dir: Path, name: str, *options: str | int) -> str:
    path = run_dir / f"{name}.tflite"
    seed("export", "--no-verify", "--run-dir", run_dir, "--out", path, *map(str, options))
    return file_sha256(path)


def portable(folder: Path) -> str:
    train(folder / "toy", "toy", 300)
    return export(folder / "toy", "portable")


def int8(folder: Path) -> str:
    train(folder / "toy", "toy", 300)
    return export(folder / "toy", *INT8)


def short_portable(folder: Path) -> str:
    short(folder)
    return export(folder / "short", "portable")


def short_int8(folder: Path) -> str:
    short(folder)
    return export(folder / "short", *INT8)


def float16(folder: Path) -> str:
    shrink(folder)
    return export(folder / "shrunk", "float16", "--float16", "--explicit-state")


CASES: dict[str, Callable[[Path], str]] = {
    "toy": toy, "seed": seed_profile, "practice": practice, "shrink": shrink, "grow": grow,
    "adapt": adapt, "portable": portable, "int8": int8, "float16": float16,
    "short": short, "turns": turns, "short portable": short_portable, "short int8": short_int8}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", choices=sorted(CASES), help="one case")
    parser.add_argument("--folder", type=Path, help="keep the brains there (must be new)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=args.folder is None)
        os.environ.setdefault("XDG_CACHE_HOME", str(folder.resolve() / "cache"))
        different = 0
        for name in [args.only] if args.only else CASES:
            sha256 = CASES[name](folder)
            equal = sha256 == GOLDEN[name]
            different += not equal
            print(f"{name:<16}{'same bits' if equal else f'DIFFERENT: {sha256}'}", flush=True)
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
