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

from seed.storage import atomic_file
from seed.config import DistillConfig, Profile, SelfplayConfig, TeacherConfig
from seed.errors import ConfigError
from seed.curriculum.user_tasks import is_user_task
from seed.storage import checkpoint
from seed.storage.checkpoint import Checkpoint
from seed.storage.run_dir import RunDir

WARMUP_STEPS = 20


def profile_for(parent: Profile, data: str, share: float, minutes: float, steps: int,
                lr: float, light: bool = False) -> Profile:
    """The recipe of the adaptation: `share` of the lessons are of the file `data`, the others as
    the parent had them, all open and each as often; nobody else teaches. If `light`, all matrices
    stay as they are; norms, convolutions, gates and the embedding, which is the head, are trained.

    Raises ConfigError if data is not a task of the user's own or share is not within 0 and 1.
    """
    if not is_user_task(data):
        raise ConfigError(f"--data is {data!r}: use lessons.jsonl, notes.txt or path.py:ClassName")
    if not 0 < share < 1:
        raise ConfigError(f"--share is {share}: use more than 0 and less than 1")
    old = {name: own for name, own in parent.curriculum.tasks.items() if name != data}
    tasks = {**old, data: share / (1 - share) * sum(old.values()) or 1.0}
    return replace(
        parent,
        curriculum=replace(parent.curriculum, tasks=tasks, eval_every_steps=0),
        selfplay=SelfplayConfig(), teacher=TeacherConfig(), distill=DistillConfig(),
        train=replace(parent.train, minutes=minutes, steps=steps, lr=lr, seed=parent.train.seed + 1,
                      warmup_steps=WARMUP_STEPS, eval_every_minutes=0.0,
                      trainable="no-matrices" if light else parent.train.trainable)).check()


def recipe(profile: Profile, data: str) -> dict[str, Any]:
    """What makes an adaptation what it is, but for the brain: options and the file's contents.

    Raises OSError if it cannot be read.
    """
    contents = Path(data.rpartition(":")[0] if ".py:" in data else data).read_bytes()
    return {"data": _digest(contents), **profile.to_dict()}


def enter(run_dir: RunDir, wanted: dict[str, Any]) -> RunDir:
    """The directory of the adaptation of such a recipe; empty if the last one in it was of another,
    or of another brain."""
    folder = run_dir.adaptation
    wanted = {**wanted, "brain": _digest(run_dir.checkpoint.read_bytes())}
    if _entered(run_dir) != wanted:
        shutil.rmtree(folder.path, ignore_errors=True)
        folder.path.mkdir()
        atomic_file.write(folder.adaptation_recipe, json.dumps(wanted, sort_keys=True).encode())
    return folder


def _entered(run_dir: RunDir) -> dict[str, Any]:
    """What the adaptation in the directory is of; nothing if there is none."""
    try:
        found = json.loads(run_dir.adaptation.adaptation_recipe.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def publish(run_dir: RunDir, parent: Checkpoint, weights: dict[str, Any]) -> None:
    """Puts the adapted weights in the place of the brain's. Raises OSError, nothing lost."""
    _copy(run_dir.checkpoint, run_dir.staged_checkpoint, run_dir.partial_copy)
    meta = {**parent.meta, "adapted": _digest(run_dir.adaptation.adaptation_recipe.read_bytes())}
    run_dir.save({**parent.tensors, **weights}, meta)
    os.replace(run_dir.staged_checkpoint, run_dir.checkpoint_before_adaptation)
    clear(run_dir)


def settle(run_dir: RunDir) -> None:
    """Ends what a killed `publish` has begun, or takes it back: `undo` has the brain that was
    there before the one that is there now."""
    if run_dir.staged_checkpoint.exists():
        now = run_dir.load_newest(lambda text: None)
        of = run_dir.adaptation.adaptation_recipe
        if now and of.exists() and now.meta.get("adapted") == _digest(of.read_bytes()):
            os.replace(run_dir.staged_checkpoint, run_dir.checkpoint_before_adaptation)
        else:
            run_dir.staged_checkpoint.unlink()


def clear(run_dir: RunDir) -> None:
    """Takes all of an adaptation that has ended away, but for what it was of: by that the same
    command knows that there is nothing left to do."""
    for path in run_dir.adaptation.path.iterdir():
        if path != run_dir.adaptation.adaptation_recipe:
            path.unlink()


def is_published(run_dir: RunDir, brain: Checkpoint, wanted: dict[str, Any]) -> bool:
    """Whether the brain is what an adaptation of this recipe has made of another."""
    entered = _entered(run_dir)
    entered.pop("brain", None)
    return entered == wanted and brain.meta.get("adapted") == _digest(
        run_dir.adaptation.adaptation_recipe.read_bytes())


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def undo(run_dir: RunDir) -> None:
    """Brings the brain of before the last adaptation back, bit for bit.

    Raises ConfigError if there is none or if the brain has learnt on since, CheckpointError if it
    is damaged.
    """
    if not run_dir.checkpoint_before_adaptation.exists():
        raise ConfigError(f"{run_dir} has no brain of before an adaptation: nothing to undo")
    checkpoint.read(run_dir.checkpoint_before_adaptation)
    now = run_dir.load_newest(lambda text: None)
    if now and "adapted" not in now.meta:
        raise ConfigError(f"the brain in {run_dir} was trained further since its adaptation, and "
                          f"would lose that: to restore it all the same, rename "
                          f"{run_dir.checkpoint_before_adaptation.name} to "
                          f"{run_dir.checkpoint.name}")
    os.replace(run_dir.checkpoint_before_adaptation, run_dir.checkpoint)
    shutil.rmtree(run_dir.adaptation.path, ignore_errors=True)


def _copy(source: Path, target: Path, partial: Path) -> None:
    """A whole copy or none, on the disk when it returns."""
    try:
        shutil.copyfile(source, partial)
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, target)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
