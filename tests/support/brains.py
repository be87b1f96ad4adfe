"""Checkpoints of untrained brains whose weights are large enough for logits to mean something.

`python -m tests.support.brains RUN_DIR FOLDER` writes exported files of a trained brain, and the
expected logits of 10,000 steps and answers to two questions per level.
"""
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from seed.config import Profile
from seed.curriculum.state import CurriculumState
from seed.curriculum.task import Item
from seed.evaluation import TrainedBrain
from seed.export import Options
from seed.export.brain_file import BrainFile
from seed.export.reference import Reference
from seed.profile_file import load_profile
from seed.rng import Stream, dice, stream
from seed.runtime import Brain, choose, measure_selftest
from seed.storage import RunDir
from seed.storage import checkpoint
from seed.wavecore.layout import blocks


def weights(profile: Profile, seed: int = 0) -> dict[str, np.ndarray]:
    """Named arrays such as training might leave them."""
    rng, arrays = stream(seed, Stream.INIT, 1), {}
    for block in blocks(profile.model):
        for array in block.arrays:
            scale = 0.5 if block.kind == "embedding" else 1.5 / np.sqrt(array.shape[-1])
            values = rng.standard_normal(array.shape) * (scale if len(array.shape) > 1 else 0.1)
            if array.name in ("norm", "out_norm", ""):
                values = values + (0.0 if block.kind == "embedding" else 1.0)
            if array.name == "dt_bias":
                values = values - 4.0
            arrays[block.key(array)] = values.astype(np.float32)
    return arrays


def save(run_dir: Path, profile: Profile, params: dict[str, np.ndarray]) -> Path:
    """A checkpoint of these weights alone."""
    run_dir.mkdir(parents=True, exist_ok=True)
    RunDir(run_dir).save(params, {
        "profile": profile.to_dict(), "step": 7, "skipped": 0, "rollbacks": 0,
        "nonfinite_in_a_row": 0, "elapsed_s": 0.0,
        "plan": {"decay_start": None, "total_steps": None},
        "curriculum": CurriculumState().to_dict()})
    return RunDir(run_dir).checkpoint


def untrained(run_dir: Path, name: str, *overrides: str) -> Path:
    profile = load_profile(name, overrides)
    return save(run_dir, profile, weights(profile))


def trained(path: Path) -> TrainedBrain:
    """The brain of a checkpoint file."""
    return TrainedBrain.of(checkpoint.read(path))


def some_bytes(n: int, seed: int = 0) -> list[int]:
    rng = dice(seed, Stream.SAMPLE, 0)
    return [int(rng.random() * 256) for _ in range(n)]


def exported(brain: TrainedBrain, path: Path, **options) -> Path:
    """A file of the brain at `path`, not verified."""
    path.write_bytes(BrainFile(brain, Options(**options)).tobytes())
    return path


def expect(path: Path, brain: TrainedBrain, n: int, items: Sequence[Item] = ()) -> Path:
    """Writes n bytes of the reference's free run and its logits after each, and questions."""
    reference, tokens, logits = Reference(brain.profile.model, brain.params), some_bytes(1), []
    rng = stream(0, Stream.SAMPLE, 1)
    for _ in range(n):
        logits.append(reference.step(tokens[-1]))
        tokens.append(choose(logits[-1], 1.0, rng))
    np.savez(path, bytes=tokens[:-1], logits=np.stack(logits), prompts=[i.prompt for i in items],
             answers=[i.answer for i in items])
    return path


def main(run_dir: Path, folder: Path) -> None:
    brain = trained(RunDir(run_dir).checkpoint)
    expect(folder / "expected.npz", brain, 10_000, list(dict.fromkeys(brain.dataset.holdout(2))))
    for target in ("portable", "litert"):
        for weights in ("float32", "int8"):
            path = folder / f"{target}-{weights}.tflite"
            exported(brain, path, target=target, weights=weights)
            file = BrainFile(brain, Options(target, weights))
            path.write_bytes(file.tobytes(selftest=measure_selftest(Brain(path))))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
