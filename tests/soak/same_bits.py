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
# Trainings: recorded when sequences, assignments and stories got targets inside, with clang 14 and
# AVX-512; AVX2 gives the same. Exported files: when both targets got one graph.
GOLDEN = {
    "toy": "781f9a6716aef7cb5e7df52f0c0cb088b57e2ee2f5da4a62573451459345cf25",
    "seed": "964e99cd0b442633f35d07da16ff6c7250f88f962ed94d816f7a3700d7bf0dc0",
    "practice": "53179272c89fa387c4029630c58fc330fdb5ff6a4774673fa5ceeff131c15eeb",
    "shrink": "9877d6de704220daf59d3f147ac3d2735b97ea6963bcf10e91fae6eeced8b55f",
    "grow": "3a97bcf8d94a415c2504f9d521ef6e07a1fdf02ab2c74d63d5d21fd19ba5eb84",
    "adapt": "56e2019e275f0d06cd08d3db60026d5c3218d235299e74ba0cc6f29541c7c1e2",
    "portable": "fef9b05124f790e9aab9a8cd9aa051bf7198d08ae774de49a2964ca20dba1e96",
    "int8": "3f2740bf34155cfa1eb99d44b8c2814497d5655106254d1b8c1ad1f9a384d99d",
    "float16": "1256e6011601731a56acf51d8acfda60e664110c5d9bfd183a4f67eedad6c8ba",
    "short": "870046a75c57cf6ecfae414c86a73b7ba9f074ea0b45560cab55b3be8b54da18",
    "turns": "c32c8d12163373eafb9b429e016501a891e9457d47e32127ba2566c4ade29a47",
    "short portable": "30c93e1a0d5604354baed517c6c73184cabb94423ae85d05c087876cb251f261",
    "short int8": "0b200611a5f9acf42c5b9cc9c831abf1a6aa289a3d6d6a9765fd071f09f75ef0",
}
INT8 = ("int8", "--int8", "--target", "litert", "--prefill", 16)
MOMENTS = ("m.", "v.", "optim.", "trained.")   # keys of a checkpoint beside the brain


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
