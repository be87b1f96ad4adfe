"""Lessons with what a parent brain expects of every byte that is learnt, on disk.

The parent reads each batch once; then neither its weights nor its run directory are needed. The
child goes over the batches in turn, with fresh lessons of its own curriculum between them.
"""
import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from seed.storage import atomic_file
from seed.config import DistillConfig, ModelConfig, Profile, from_dict
from seed.curriculum.state import CurriculumState
from seed.curriculum.dataset import Dataset, SoftTargetBatch
from seed.storage import checkpoint
from seed.evaluation.forward_pass import CapturedForward
from seed.storage.run_dir import RunDir
from seed.wavecore.model import WaveCore, init_params

SIZES = {"tokens": np.uint8, "targets": np.int16, "topk_ids": np.int16, "topk_probs": np.float32}


class Parent(NamedTuple):
    """A brain that others learn from: the newest of a run directory."""
    config: ModelConfig
    params: dict[str, np.ndarray]
    profile: Profile


def read_parent(run_dir: RunDir, warn: Callable[[str], None]) -> Parent:
    """Raises ConfigError if there is no brain, CheckpointError if it cannot be used."""
    found = run_dir.load_brain(warn)
    profile = from_dict(found.meta["profile"])
    names = init_params(profile.model, 0)
    checkpoint.check_tensors({k: a for k, a in found.tensors.items() if k in names}, names,
                             str(run_dir))
    return Parent(profile.model, {key: found.tensors[key] for key in names}, profile)


class SoftLessons:
    """The batches of a file, by step: in a share of the steps, evenly spread."""

    def __init__(self, arrays: dict[str, np.ndarray], share: float):
        self.arrays, self.share = arrays, share

    def batch(self, step: int) -> SoftTargetBatch | None:
        """None where the curriculum teaches."""
        before = int(step * self.share)
        if int((step + 1) * self.share) == before:
            return None
        i = before % len(self.arrays["tokens"])
        tokens, targets, topk_ids = (self.arrays[name][i].astype(np.int32)
                                     for name in ("tokens", "targets", "topk_ids"))
        return SoftTargetBatch(tokens, targets, topk_ids, self.arrays["topk_probs"][i])


def prepare(profile: Profile, run_dir: RunDir, threads: int, say: Callable[[str], None],
            stopped: Callable[[], bool]) -> SoftLessons | None:
    """The lessons of profile.distill: read from the run directory, or made and written there.

    None if `stopped` became true meanwhile. Raises ConfigError, CheckpointError, OSError.
    """
    made_by = {key: value for key, value in asdict(profile.distill).items()
               if key not in ("alpha", "data_fraction")}
    wanted = json.dumps({"distill": made_by, "rows": _rows(profile),
                         "curriculum": asdict(profile.curriculum), "seed": profile.train.seed,
                         "identity": profile.identity}, sort_keys=True)
    found = _read(run_dir.soft_targets, wanted)
    if found is None:
        parent = read_parent(RunDir(Path(profile.distill.parent)), say)
        found = _ask(parent, profile, threads, say, stopped)
        if found is None:
            return None
        _write(run_dir, found, wanted)
    return SoftLessons(found, profile.distill.data_fraction)


def _rows(profile: Profile) -> tuple[int, int]:
    train = profile.train
    return train.batch_size * train.grad_accum_steps, train.seq_len


def expects(logits: np.ndarray, distill: DistillConfig) -> tuple[np.ndarray, np.ndarray]:
    """logits (..., v) to its likeliest `top` bytes (..., k) int32 and softmax(logits / T) there."""
    z = logits / np.float32(distill.temperature)
    p = np.exp(z - z.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    topk_ids = np.argpartition(p, -distill.top_k, -1)[..., -distill.top_k:].astype(np.int32)
    return topk_ids, np.take_along_axis(p, topk_ids, -1)


def _ask(parent: Parent, profile: Profile, threads: int, say: Callable[[str], None],
         stopped: Callable[[], bool]) -> dict[str, np.ndarray] | None:
    """What the parent expects; it says nothing (-1) of bytes that are not learnt."""
    rows, seq_len = _rows(profile)
    n, top = profile.distill.batches, profile.distill.top_k
    arrays = {name: np.zeros((n, rows, seq_len, *([top] * (name in ("topk_ids", "topk_probs")))), dtype)
              for name, dtype in SIZES.items()}
    dataset = Dataset(replace(profile.curriculum, eval_every_steps=0), profile.identity,
                      profile.train.seed)
    everything = CurriculumState.initial(dataset.config, dataset.tasks)
    forward = CapturedForward(WaveCore(parent.config, parent.params, threads), rows, seq_len)
    for i in range(n):
        if stopped():
            return None
        batch = dataset.batch(everything, i, rows, seq_len)
        topk_ids, topk_probs = expects(forward.run(batch.tokens), profile.distill)
        topk_ids[batch.targets < 0] = -1
        for name, values in zip(SIZES, (batch.tokens, batch.targets, topk_ids, topk_probs)):
            arrays[name][i] = values
        if (i + 1) % max(1, n // 10) == 0:
            say(f"the parent has read {i + 1} of {n} batches")
    return arrays


def _read(path: Path, wanted: str) -> dict[str, np.ndarray] | None:
    """The arrays of a whole file that was made for just this; None for any other."""
    try:
        data = path.read_bytes()
        head = json.loads(data[8:8 + int.from_bytes(data[:8], "little")])["__metadata__"]
        arrays = safetensors.numpy.load(data)
        if head["seed"] != _head(arrays, wanted):
            return None
    except (OSError, SafetensorError, ValueError, KeyError, TypeError):
        return None
    return arrays


def _head(arrays: dict[str, np.ndarray], made_for: str) -> str:
    """One entry, because safetensors writes several in any order."""
    found = hashlib.blake2b(digest_size=16)
    for name in SIZES:
        found.update(np.ascontiguousarray(arrays[name]).data)
    return f"{found.hexdigest()} {made_for}"


def _write(run_dir: RunDir, arrays: dict[str, np.ndarray], made_for: str) -> None:
    data = safetensors.numpy.save(arrays, {"seed": _head(arrays, made_for)})
    atomic_file.write(run_dir.soft_targets, data)
