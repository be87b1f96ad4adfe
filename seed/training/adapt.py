"""A new rule from a few recorded examples: a short training on them, with the old tasks as replay.

It is an ordinary training in a directory inside the brain's own, so it is interrupted and resumed
like any other. When it ends, its weights replace the brain's; the brain as it was stays beside them
until it is restored or the next adaptation begins.
"""
import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from seed.config import DistillConfig, Profile, SelfplayConfig, TeacherConfig, from_dict
from seed.curriculum.dataset import Dataset
from seed.curriculum.user_tasks import is_user_task
from seed.errors import ConfigError
from seed.evaluation import TrainedBrain
from seed.evaluation.exact_match import Score
from seed.storage import atomic_file, checkpoint
from seed.storage.checkpoint import Checkpoint
from seed.storage.run_dir import Log, RunDir
from seed.training.loop import TrainResult
from seed.training.stop_signals import StopSignals, watched

WARMUP_STEPS = 20


class AdaptResult(NamedTuple):
    """`train` is None if this very adaptation is in place already; scores are of the holdout."""
    train: TrainResult | None = None
    before: Sequence[Score] = ()

    @property
    def after(self) -> Sequence[Score]:
        return self.train.scores if self.train else ()


def adapt_brain(run_dir: RunDir, data: str, threads: int = 1, log: Log = print,
                signals: StopSignals | None = None, *, share: float = 0.3, minutes: float = 2.0,
                steps: int = 0, lr: float = 1e-3, light: bool = False) -> AdaptResult:
    """Trains the brain on the examples of the user task `data`, and replaces it if that finishes.

    `share` of the items is of `data`; `light` trains no matrices. Raises ConfigError if there is no
    brain or no such data, and as `train`.
    """
    from seed.training.pipeline import train   # here, because it imports tinygrad
    with watched(signals) as signals, run_dir.locked():
        _settle(run_dir)
        brain = run_dir.recover_brain(log)
        profile = profile_for(from_dict(brain.meta["profile"]), data, share, minutes, steps, lr,
                              light)
        recipe = recipe_of(profile, data)
        if _is_published(run_dir, brain, recipe):
            _clear(run_dir)
            return AdaptResult()
        trained = TrainedBrain.of(brain, threads, run_dir)
        weights, folder = trained.params, _enter(run_dir, recipe)
        dataset = Dataset(profile.curriculum, profile.identity, profile.train.seed)
        before = trained.scores(dataset.holdout(profile.curriculum.holdout_items), dataset)
        result = train(profile, folder, threads, log, signals, lambda: weights)
        if result.finished:
            adapted = checkpoint.read(folder.checkpoint).tensors
            _publish(run_dir, brain, {key: adapted[key] for key in weights})
    return AdaptResult(result, before)


def profile_for(parent: Profile, data: str, share: float, minutes: float, steps: int,
                lr: float, light: bool = False) -> Profile:
    """The profile of the adaptation: `share` of the items is of the file `data`, the rest of all
    the parent's tasks in their old proportions, without curriculum, self-play, teacher or parent.
    If `light`, matrices stay; norms, convolutions, gates and the embedding, also the head, train.

    Raises ConfigError if data is no user task or share is not within 0 and 1.
    """
    if not is_user_task(data):
        raise ConfigError(f"--data is {data!r}: use items.jsonl, notes.txt or path.py:ClassName")
    if not 0 < share < 1:
        raise ConfigError(f"--share is {share}: use more than 0 and less than 1")
    old = {name: weight for name, weight in parent.curriculum.tasks.items() if name != data}
    tasks = {**old, data: share / (1 - share) * sum(old.values()) or 1.0}
    return replace(
        parent,
        curriculum=replace(parent.curriculum, tasks=tasks, eval_every_steps=0),
        selfplay=SelfplayConfig(), teacher=TeacherConfig(), distill=DistillConfig(),
        train=replace(parent.train, minutes=minutes, steps=steps, lr=lr, seed=parent.train.seed + 1,
                      warmup_steps=WARMUP_STEPS, eval_every_minutes=0.0,
                      trainable="no-matrices" if light else parent.train.trainable)).check()


def recipe_of(profile: Profile, data: str) -> dict[str, Any]:
    """What defines an adaptation, but for the brain: options and the file's contents.

    Raises OSError if it cannot be read.
    """
    contents = Path(data.rpartition(":")[0] if ".py:" in data else data).read_bytes()
    return {"data": _digest(contents), **profile.to_dict()}


def _enter(run_dir: RunDir, recipe: dict[str, Any]) -> RunDir:
    """The directory of the adaptation of this recipe; emptied if the last one in it had another
    recipe or another brain."""
    folder = run_dir.adaptation
    recipe = {**recipe, "brain": _digest(run_dir.checkpoint.read_bytes())}
    if _read_recipe(run_dir) != recipe:
        shutil.rmtree(folder.path, ignore_errors=True)
        folder.path.mkdir()
        atomic_file.write(folder.adaptation_recipe, json.dumps(recipe, sort_keys=True).encode())
    return folder


def _read_recipe(run_dir: RunDir) -> dict[str, Any]:
    """Of the adaptation in the directory, with its brain; empty if there is none."""
    try:
        recipe = json.loads(run_dir.adaptation.adaptation_recipe.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return recipe if isinstance(recipe, dict) else {}


def _publish(run_dir: RunDir, parent: Checkpoint, weights: dict[str, Any]) -> None:
    """Replaces the brain's weights by the adapted ones. Raises OSError; then nothing is lost."""
    _copy(run_dir.checkpoint, run_dir.staged_checkpoint, run_dir.partial_copy)
    meta = {**parent.meta, "adapted": _digest(run_dir.adaptation.adaptation_recipe.read_bytes())}
    run_dir.save({**parent.tensors, **weights}, meta)
    os.replace(run_dir.staged_checkpoint, run_dir.checkpoint_before_adaptation)
    _clear(run_dir)


def _settle(run_dir: RunDir) -> None:
    """Completes what a killed `_publish` began, or drops it, so that the checkpoint before the
    adaptation is always that of the brain before the present one."""
    if run_dir.staged_checkpoint.exists():
        newest = run_dir.load_newest(lambda text: None)
        recipe = run_dir.adaptation.adaptation_recipe
        adapted = _digest(recipe.read_bytes()) if recipe.exists() else ""
        if newest and newest.meta.get("adapted") == adapted:
            os.replace(run_dir.staged_checkpoint, run_dir.checkpoint_before_adaptation)
        else:
            run_dir.staged_checkpoint.unlink()


def _clear(run_dir: RunDir) -> None:
    """Removes all files of an adaptation that has ended, except its recipe: by that the same
    command knows that there is nothing left to do."""
    for path in run_dir.adaptation.path.iterdir():
        if path != run_dir.adaptation.adaptation_recipe:
            path.unlink()


def _is_published(run_dir: RunDir, brain: Checkpoint, recipe: dict[str, Any]) -> bool:
    """Whether the brain is the result of an adaptation with this recipe."""
    last = _read_recipe(run_dir)
    last.pop("brain", None)
    return last == recipe and brain.meta.get("adapted") == _digest(
        run_dir.adaptation.adaptation_recipe.read_bytes())


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def undo_adaptation(run_dir: RunDir) -> None:
    """Restores the brain of before the last adaptation, bit for bit.

    Raises ConfigError if there is none or if the brain was trained since, CheckpointError if it is
    damaged.
    """
    with run_dir.locked():
        _settle(run_dir)
        before = run_dir.checkpoint_before_adaptation
        if not before.exists():
            raise ConfigError(f"{run_dir} has no brain of before an adaptation: nothing to undo")
        checkpoint.read(before)
        newest = run_dir.load_newest(lambda text: None)
        if newest and "adapted" not in newest.meta:
            raise ConfigError(f"the brain in {run_dir} was trained since its adaptation, and would "
                              f"lose that: to restore the one before all the same, rename "
                              f"{before.name} to {run_dir.checkpoint.name}")
        os.replace(before, run_dir.checkpoint)
        shutil.rmtree(run_dir.adaptation.path, ignore_errors=True)


def _copy(source: Path, target: Path, partial: Path) -> None:
    """A whole copy or none, on the disk when this returns."""
    try:
        shutil.copyfile(source, partial)
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, target)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
