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
# Recorded before the rooms were moved (commit c3d2eb6), with clang 14; the three exported files
# when SLICE got the schema's number of its own options, which is all that changed in them; the
# short ones by code that gave those of toy.
GOLDEN = {
    "toy": "cd670fbf6fbd704c362e5d39de446271cc4ff154d0f73682ea060ad95dd51ff3",
    "seed": "513d1dd6c2234a7ea58e512f3059364cf0af9550c167cb33abf2f4e320d875a5",
    "practice": "25c7261a1bee63c542c686ee3e1546a7fe3eaf5dd841d7d3c02e12bcaae6c851",
    "shrink": "09b4edba1a853341dcf3eceeb27d2f2df833e41e2139909b261d4b69db86fc4e",
    "grow": "428a2db5188e46081847c4319e12f3e6c6fce62b90fde5a54da666e8f51c70f4",
    "adapt": "9a1555d1b6f611dc031154dae334c31860f1f9c4785b8f17d0b3c6da4be9bd65",
    "portable": "570f70707e000fe41f25490869c3ee76fe5763a271c603c3e37ecd1d691f8cab",
    "int8": "cc9622f14e2040fd55104e4da48ed01428b5781ce7201cabfb475df4c6dacb16",
    "float16": "30312e89979b4a2b4d7c882139591f810ceb880270a0dd29f58d4c9d141d000f",
    "short": "9645af133667016c82baa37a6a0684df39d033a461c857637d8a5089dc20dfbc",
    "short portable": "f9384fad2a4f431b8b2a260a6663cb540481a29ad24121d2ae6e59714f05c9b9",
    "short int8": "f9d4fe940a8f64d00a97a1ee9bd829903d3b2aea007720870d12bc6dd1508258",
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
    "short": short, "short portable": short_portable, "short int8": short_int8}


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
