"""A new rule from a few recorded examples: a short run on them, among the old lessons as replay.

The run is an ordinary one in a directory inside the brain's own, so it is interrupted and resumed
like any other. When it ends its weights take the place of the brain's; the brain as it was stays
beside them until it is brought back or the next adaptation begins.
"""
import hashlib
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from seed.config import ConfigError, Profile, SelfplayConfig, TeacherConfig
from seed.curriculum.own_tasks import is_own
from seed.training import checkpoint
from seed.training.checkpoint import Checkpoint

FOLDER, OF = "adapting", "of.json"
BEFORE, PARTIAL = "checkpoint.before.safetensors", ".checkpoint.undo"
WARMUP_STEPS = 20


def profile_for(parent: Profile, data: str, share: float, minutes: float, steps: int,
                lr: float, sparse: bool = False) -> Profile:
    """The recipe of the adaptation: `share` of the lessons are of the file `data`, the others as
    the parent had them, all open and each as often; nobody else teaches. If `sparse`, all matrices
    stay, and only norms, convolutions, gates and the embedding, which is the head, are moved.

    Raises ConfigError if data is not a task of the user's own or share is not within 0 and 1.
    """
    if not is_own(data):
        raise ConfigError(f"--data is {data!r}: use lessons.jsonl, notes.txt or path.py:ClassName")
    if not 0 < share < 1:
        raise ConfigError(f"--share is {share}: use more than 0 and less than 1")
    old = {name: own for name, own in parent.curriculum.tasks.items() if name != data}
    tasks = {**old, data: share / (1 - share) * sum(old.values())}
    return replace(
        parent,
        curriculum=replace(parent.curriculum, tasks=tasks, exam_every=0),
        selfplay=SelfplayConfig(), teacher=TeacherConfig(),
        train=replace(parent.train, minutes=minutes, steps=steps, lr=lr, seed=parent.train.seed + 1,
                      warmup_steps=WARMUP_STEPS, eval_every_minutes=0.0,
                      optimizer="sparse" if sparse else parent.train.optimizer)).check()


def enter(run_dir: Path, profile: Profile) -> Path:
    """The directory of the adaptation; empty if the last one in it was of another brain, data or
    recipe."""
    folder = run_dir / FOLDER
    brain = _digest((run_dir / checkpoint.NAME).read_bytes())
    wanted = json.dumps({"brain": brain, **profile.to_dict()}, sort_keys=True)
    if not (folder / OF).exists() or (folder / OF).read_text(encoding="utf-8") != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        (folder / OF).write_text(wanted, encoding="utf-8")
    return folder


def publish(run_dir: Path, parent: Checkpoint, weights: dict[str, Any]) -> None:
    """Puts the adapted weights in the place of the brain's. Raises OSError, nothing lost."""
    _copy(run_dir / checkpoint.NAME, run_dir / BEFORE)
    meta = {**parent.meta, "adapted": _digest((run_dir / FOLDER / OF).read_bytes())}
    checkpoint.save(run_dir, {**parent.tensors, **weights}, meta)
    clear(run_dir)


def clear(run_dir: Path) -> None:
    """Takes the directory of an adaptation that has ended away."""
    shutil.rmtree(run_dir / FOLDER, ignore_errors=True)


def is_published(run_dir: Path, brain: Checkpoint) -> bool:
    """Whether the brain is what the adaptation in its directory has made: it was killed last."""
    of = run_dir / FOLDER / OF
    return of.exists() and brain.meta.get("adapted") == _digest(of.read_bytes())


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def undo(run_dir: Path) -> None:
    """Brings the brain of before the last adaptation back, bit for bit.

    Raises ConfigError if there is none, CheckpointError if it is damaged.
    """
    if not (run_dir / BEFORE).exists():
        raise ConfigError(f"{run_dir} has no brain of before an adaptation: nothing to undo")
    checkpoint.read(run_dir / BEFORE)
    os.replace(run_dir / BEFORE, run_dir / checkpoint.NAME)
    clear(run_dir)


def _copy(source: Path, target: Path) -> None:
    """A whole copy or none, on the disk when it returns."""
    partial = target.with_name(PARTIAL)
    try:
        shutil.copyfile(source, partial)
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, target)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
