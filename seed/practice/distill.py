"""Soft targets from a parent brain: batches with its likeliest bytes at every target, on disk.

The parent reads each batch once; then neither its weights nor its run directory are needed. The
child repeats the batches in turn, between batches of its own curriculum.
"""
import hashlib
import json
import math
import os
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from seed.config import DistillConfig, Profile
from seed.curriculum.dataset import Dataset, SoftTargetBatch
from seed.curriculum.state import CurriculumState
from seed.curriculum.vocab import VOCAB_SIZE
from seed.evaluation import TrainedBrain
from seed.evaluation.forward_pass import CapturedForward
from seed.regular_file import parse_json, reader
from seed.storage import atomic_file
from seed.storage.run_dir import Log, RunDir

DTYPES = {"tokens": np.uint8, "targets": np.int16, "topk_ids": np.int16, "topk_probs": np.float32}
MAX_HEADER_BYTES = 2 ** 20
N_LOG_LINES = 10   # of the parent's progress


class SoftTargetBatches:
    """The batches of a file, in a fraction of the steps, evenly spread."""

    def __init__(self, arrays: dict[str, np.ndarray], data_fraction: float):
        self.arrays, self.data_fraction = arrays, data_fraction

    def batch(self, step: int) -> SoftTargetBatch | None:
        """None in a step of the curriculum."""
        n_before = int(step * self.data_fraction)
        if int((step + 1) * self.data_fraction) == n_before:
            return None
        i = n_before % len(self.arrays["tokens"])
        tokens, targets, topk_ids = (self.arrays[name][i].astype(np.int32)
                                     for name in ("tokens", "targets", "topk_ids"))
        return SoftTargetBatch(tokens, targets, topk_ids, self.arrays["topk_probs"][i])


def prepare(profile: Profile, run_dir: RunDir, threads: int, log: Log,
            should_stop_fn: Callable[[], bool]) -> SoftTargetBatches | None:
    """The batches of profile.distill: read from the run directory, or made and written there.

    None if `should_stop_fn` returned true meanwhile. Raises ConfigError, CheckpointError, OSError.
    """
    settings = {key: value for key, value in asdict(profile.distill).items()
                if key not in ("alpha", "data_fraction")}
    recipe = json.dumps({"distill": settings, "rows": _batch_shape(profile),
                         "curriculum": asdict(profile.curriculum), "seed": profile.train.seed,
                         "identity": profile.identity}, sort_keys=True)
    arrays = _read(run_dir.soft_targets, profile, recipe)
    if arrays is None:
        parent = TrainedBrain.of(RunDir(Path(profile.distill.parent)).load_brain(log), threads)
        arrays = _make(parent, profile, log, should_stop_fn)
        if arrays is None:
            return None
        atomic_file.write(run_dir.soft_targets,
                          safetensors.numpy.save(arrays, {"seed": _digest(arrays, recipe)}))
    return SoftTargetBatches(arrays, profile.distill.data_fraction)


def _batch_shape(profile: Profile) -> tuple[int, int]:
    train = profile.train
    return train.batch_size * train.grad_accum_steps, train.seq_len


def soft_targets(logits: np.ndarray, distill: DistillConfig) -> tuple[np.ndarray, np.ndarray]:
    """logits (..., v) to the top_k likeliest bytes (..., k) int32 and softmax(logits / T) there."""
    z = logits / np.float32(distill.temperature)
    p = np.exp(z - z.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    topk_ids = np.argpartition(p, -distill.top_k, -1)[..., -distill.top_k:].astype(np.int32)
    return topk_ids, np.take_along_axis(p, topk_ids, -1)


def _make(parent: TrainedBrain, profile: Profile, log: Log,
          should_stop_fn: Callable[[], bool]) -> dict[str, np.ndarray] | None:
    """Arrays (n, b, t) and (n, b, t, k); topk_ids are -1 outside the loss mask."""
    (rows, seq_len), distill = _batch_shape(profile), profile.distill
    n, shapes = distill.batches, _shapes(profile)
    arrays = {name: np.zeros(shapes[name], dtype) for name, dtype in DTYPES.items()}
    dataset = Dataset(replace(profile.curriculum, eval_every_steps=0), profile.identity,
                      profile.train.seed)
    all_unlocked = CurriculumState.initial(dataset.config, dataset.tasks)
    forward = CapturedForward(parent.model, rows, seq_len)
    for i in range(n):
        if should_stop_fn():
            return None
        batch = dataset.batch(all_unlocked, i, rows, seq_len)
        topk_ids, topk_probs = soft_targets(forward.run(batch.tokens), distill)
        topk_ids[batch.targets < 0] = -1
        for name, values in zip(DTYPES, (batch.tokens, batch.targets, topk_ids, topk_probs)):
            arrays[name][i] = values
        if (i + 1) % max(1, n // N_LOG_LINES) == 0:
            log(f"soft targets of {i + 1} of {n} batches made by the parent")
    return arrays


def _shapes(profile: Profile) -> dict[str, tuple[int, ...]]:
    (rows, seq_len), distill = _batch_shape(profile), profile.distill
    shape = (distill.batches, rows, seq_len)
    return {"tokens": shape, "targets": shape, "topk_ids": (*shape, distill.top_k),
            "topk_probs": (*shape, distill.top_k)}


def _read(path: Path, profile: Profile, recipe: str) -> dict[str, np.ndarray] | None:
    """The arrays of an undamaged file that was made by this recipe; None for any other.

    All is checked that the kernels rely on: a digest that anybody can compute is no proof.
    """
    shapes = _shapes(profile)
    n_bytes = sum(math.prod(shapes[name]) * np.dtype(kind).itemsize
                  for name, kind in DTYPES.items())
    try:
        with reader(path) as file:
            start = file.read(8)
            size = int.from_bytes(start, "little")
            if size > MAX_HEADER_BYTES or os.fstat(file.fileno()).st_size != 8 + size + n_bytes:
                return None
            head = file.read(size)
            metadata = parse_json(head)["__metadata__"]
            arrays = safetensors.numpy.load(start + head + file.read())
        is_valid = metadata["seed"] == _digest(arrays, recipe) and _is_in_range(arrays, shapes)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError):
        return None
    return arrays if is_valid else None


def _is_in_range(arrays: dict[str, np.ndarray], shapes: dict[str, tuple[int, ...]]) -> bool:
    """Whether shapes and types are those, ids are bytes or -1, and probabilities are such."""
    return arrays.keys() == shapes.keys() and all(
        arrays[name].shape == shapes[name] and arrays[name].dtype == kind
        for name, kind in DTYPES.items()) and all(
        arrays[name].min() >= -1 and arrays[name].max() < VOCAB_SIZE
        for name in ("targets", "topk_ids")) and bool(
        np.isfinite(arrays["topk_probs"]).all() and arrays["topk_probs"].min() >= 0
        and arrays["topk_probs"].max() <= 1.001)


def _digest(arrays: dict[str, np.ndarray], recipe: str) -> str:
    """One metadata entry, because safetensors writes several in any order."""
    digest = hashlib.blake2b(digest_size=16)
    for name in DTYPES:
        digest.update(np.ascontiguousarray(arrays[name]).data)
    return f"{digest.hexdigest()} {recipe}"
