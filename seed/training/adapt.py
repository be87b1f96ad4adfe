"""A new rule from a few recorded examples: a short training on them, with the old tasks as replay.

It is an ordinary training in a directory inside the brain's own, so it is interrupted and resumed
like any other. When it ends, its weights replace the brain's; the brain as it was stays beside them
until it is restored or the next adaptation begins.
"""
import filecmp
import hashlib
import json
import shutil
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from seed.config import (BodyConfig, DistillConfig, GovernorConfig, LiveConfig, Profile,
                         SelfplayConfig, TeacherConfig, from_dict)
from seed.curriculum.consent import without_unnamed_report, without_unnamed_tasks
from seed.curriculum.dataset import Dataset
from seed.errors import ConfigError
from seed.evaluation import TrainedBrain
from seed.evaluation.exact_match import Score
from seed.profile_file import applied, overridden
from seed.regular_file import blocks, read_bytes, reader
from seed.storage import atomic_file, checkpoint
from seed.storage.checkpoint import Checkpoint
from seed.storage.run_dir import Log, RunDir
from seed.task_names import KINDS, absolute, file_of, is_class_name, is_user_task
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
                steps: int = 0, lr: float = 1e-3, light: bool = False,
                tasks: Collection[str] = (), overrides: Sequence[str] = ()) -> AdaptResult:
    """Trains the brain on the examples of the user task `data`, and replaces it if that finishes.

    `share` of the items is of `data`; `light` trains no matrices. Of the brain's own user tasks
    only those in `tasks` are replayed. `overrides`: of its governor. Raises ConfigError if there is
    no brain or no such data, and as `train`.
    """
    from seed.training.pipeline import train   # here, because it imports tinygrad
    data = absolute(data)
    with watched(signals) as signals, run_dir.locked() as run_dir:
        brain = run_dir.load_brain(log, recover=True)
        settle(run_dir)
        parent = governed(brain, overrides, log)
        parent = without_unnamed_tasks(parent, tasks, log, (data,))
        profile = profile_for(parent, data, share, minutes, steps, lr, light)
        recipe = recipe_of(profile, data)
        if is_in_place(run_dir, brain, recipe):
            return AdaptResult()
        trained = TrainedBrain.of(brain, threads)
        weights, folder = trained.params, enter(run_dir, recipe)
        dataset = Dataset(profile.curriculum, profile.identity, profile.train.seed)
        before = trained.scores(dataset.holdout(profile.curriculum.holdout_items), dataset)
        result = train(profile, folder, threads, log, signals, lambda: weights,
                       known=trained.bodies)
        if result.finished:
            adapted = checkpoint.read(folder.checkpoint).tensors
            publish(run_dir, brain, {key: adapted[key] for key in weights}, recipe)
    return AdaptResult(result, before)


def governed(brain: Checkpoint, overrides: Sequence[str], log: Log) -> Profile:
    """The brain's profile, with `governor.key=value` overrides, which may name the robot's report.
    Raises ConfigError."""
    stored = from_dict(brain.meta["profile"]).to_dict()
    return without_unnamed_report(overridden(stored, overrides), applied({}, overrides), log)


def profile_for(parent: Profile, data: str, share: float, minutes: float, steps: int,
                lr: float, light: bool = False) -> Profile:
    """The profile of the adaptation: `share` of the items is of the file `data`, the rest of all
    the parent's tasks in their old proportions, without curriculum, self-play, teacher or parent.
    If `light`, matrices stay; norms, convolutions, gates and the embedding, also the head, train.

    Raises ConfigError if data is no user task or share is not within 0 and 1.
    """
    if not is_user_task(data):
        raise ConfigError(f"--data is {data!r}: use {KINDS}")
    if not 0 < share < 1:
        raise ConfigError(f"--share is {share}: use more than 0 and less than 1")
    old = {name: weight for name, weight in parent.curriculum.tasks.items() if name != data}
    tasks = {**old, data: share / (1 - share) * sum(old.values()) or 1.0}
    return replace(
        parent,
        curriculum=replace(parent.curriculum, tasks=tasks, eval_every_steps=0),
        selfplay=SelfplayConfig(), teacher=TeacherConfig(), distill=DistillConfig(),
        body=replayed(parent.body),
        train=replace(parent.train, minutes=minutes, steps=steps, lr=lr, seed=parent.train.seed + 1,
                      warmup_steps=WARMUP_STEPS, eval_every_minutes=0.0,
                      trainable="no-matrices" if light else parent.train.trainable)).check()


def replayed(body: BodyConfig) -> BodyConfig:
    """A round of each body that the brain's own profile may open, and as many steps of the
    curriculum at least."""
    rounds = {name: 1 for name in body.rounds if not is_class_name(name)}
    return replace(body, rounds=rounds, data={},
                   curriculum_steps=max(body.curriculum_steps, len(rounds)))


def is_in_place(run_dir: RunDir, brain: Checkpoint, recipe: bytes) -> bool:
    """Whether the brain has this adaptation; then nothing is left of its training."""
    if brain.meta.get("adapted") != digest_of([recipe]):
        return False
    shutil.rmtree(run_dir.adaptation.path, ignore_errors=True)
    return True


def recipe_of(profile: Profile, data: str) -> bytes:
    """What defines an adaptation, but for the brain: options and the file's contents.

    Raises OSError if it cannot be read.
    """
    return recipe_with(profile, digest_of(blocks(file_of(data))))


def recipe_with(profile: Profile, contents: str) -> bytes:
    """As recipe_of, with a digest of the contents. What only says when to learn is no part of it.
    """
    tables = replace(profile, governor=GovernorConfig(), live=LiveConfig()).to_dict()
    return json.dumps({"data": contents, **tables}, sort_keys=True).encode()


def enter(run_dir: RunDir, recipe: bytes) -> RunDir:
    """The directory of the adaptation of this recipe; emptied if the last one in it had another
    recipe or another brain."""
    folder = run_dir.adaptation
    recipe += digest_of(blocks(run_dir.checkpoint)).encode()
    if _read_recipe(folder) != recipe:
        shutil.rmtree(folder.path, ignore_errors=True)
        atomic_file.make_directory(folder.path)
        atomic_file.write(folder.recipe, recipe)
    return folder


def publish(run_dir: RunDir, parent: Checkpoint, weights: dict[str, np.ndarray], recipe: bytes,
            **meta: Any) -> None:
    """Replaces the brain's weights by the adapted ones, and what they have changed in its metadata.
    Raises OSError; then nothing is lost."""
    atomic_file.copy(run_dir.checkpoint, run_dir.staged_checkpoint)
    run_dir.save({**parent.tensors, **weights}, {
        **parent.meta, **meta, "adapted": digest_of([recipe])})
    settle(run_dir)
    shutil.rmtree(run_dir.adaptation.path, ignore_errors=True)


def settle(run_dir: RunDir) -> None:
    """Completes a publication, also one that was killed, so that the checkpoint before the
    adaptation is always that of the brain before the present one."""
    staged = run_dir.staged_checkpoint
    if staged.exists():
        reader(staged).close()   # a directory in its place is named
    if staged.exists() and filecmp.cmp(staged, run_dir.checkpoint, shallow=False):
        staged.unlink()   # the adapted brain was not saved
    elif staged.exists():
        atomic_file.move(staged, run_dir.checkpoint_before_adaptation)


def _read_recipe(folder: RunDir) -> bytes:
    """Empty if there is none that can be read."""
    try:
        return read_bytes(folder.recipe)
    except OSError:
        return b""


def digest_of(pieces: Iterable[bytes]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def undo_adaptation(run_dir: RunDir) -> None:
    """Restores the brain of before the last adaptation, bit for bit.

    Raises ConfigError if there is none or if the brain was trained since, CheckpointError if it is
    damaged.
    """
    with run_dir.locked() as run_dir:
        newest = run_dir.recover(lambda text: None)
        if newest:
            settle(run_dir)
        before = run_dir.checkpoint_before_adaptation
        if not before.exists():
            raise ConfigError(f"{run_dir} has no brain of before an adaptation: nothing to undo")
        checkpoint.read(before)
        if newest and "adapted" not in newest.meta:
            raise ConfigError(f"the brain in {run_dir} was trained since its adaptation, and would "
                              f"lose that: to restore the one before all the same, rename "
                              f"{before.name} to {run_dir.checkpoint.name}")
        atomic_file.move(before, run_dir.checkpoint)
        shutil.rmtree(run_dir.adaptation.path, ignore_errors=True)
