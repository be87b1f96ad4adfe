"""A new rule from a few recorded examples: a short training on them, with the old tasks as replay.

It is an ordinary training in a directory inside the brain's own, so it is interrupted and resumed
like any other, with the examples that it read at its start. When it ends, its weights replace the
brain's if they pass the limits; the brain as it was stays beside them (undo_levels.py), and the
examples are replayed by whatever is learnt later (replay.py).
"""
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from seed.body.results import Acting
from seed.config import (BodyConfig, DistillConfig, GovernorConfig, LiveConfig, Profile,
                         SelfplayConfig, TeacherConfig, from_dict)
from seed.curriculum.consent import without_unnamed_report, without_unnamed_tasks
from seed.curriculum.corpus import Corpus, check_memory, whole_lines
from seed.curriculum.dataset import Dataset, item_bytes
from seed.curriculum.task import Item, Task
from seed.curriculum.user_tasks import load
from seed.errors import BAD_INPUT, ConfigError, StopReason, StopRequested
from seed.evaluation import TrainedBrain
from seed.evaluation.acceptance import Limits, check_provable, refusal
from seed.evaluation.exact_match import Score
from seed.evaluation.score_summary import Measured
from seed.profile_file import applied, overridden
from seed.regular_file import blocks, read_bytes
from seed.rng import Stream, dice
from seed.storage import atomic_file, checkpoint, replay, undo_levels
from seed.storage.checkpoint import Checkpoint
from seed.storage.replay import Replay
from seed.storage.run_dir import Log, RunDir
from seed.storage.undo_levels import settle
from seed.task_names import KINDS, absolute, file_of, is_class_name, is_user_task, short
from seed.terminal.screen import Screen
from seed.training.loop import TrainResult
from seed.training.stop_signals import StopSignals, watched

WARMUP_STEPS = 20
GROWN = ("{} has grown since this adaptation began: run the same command again to learn the rest "
         "too")
StopFn = Callable[[], bool]


class AdaptResult(NamedTuple):
    """How an adaptation ended. `train` is None if this very adaptation is in place already; scores
    are of the holdout. `refusal`: why the brain before stays, if the adapted one does not pass the
    limits."""
    train: TrainResult | None = None
    before: Sequence[Score] = ()
    refusal: str = ""
    uniform_before: Sequence[Score] = ()   # as `before`, of uniform draws

    @property
    def measured(self) -> tuple[Measured, Measured]:
        """Before and after."""
        return (Measured(self.before, self.uniform_before),
                self.train.measured if self.train else Measured(()))

    @property
    def facts(self) -> dict[str, Any]:
        """For JSON."""
        before, after = (measured.to_dict() for measured in self.measured)
        return {"before": self.before, "after": self.after,
                "summary": {"before": before, "after": after}}

    @property
    def after(self) -> Sequence[Score]:
        """As `before`, of the adapted brain."""
        return self.train.scores if self.train else ()


def adapt_brain(run_dir: RunDir, data: str, threads: int = 1, log: Log = print,
                signals: StopSignals | None = None, *, share: float = 0.3, minutes: float = 2.0,
                steps: int = 0, lr: float = 1e-3, light: bool = False,
                tasks: Collection[str] = (), overrides: Sequence[str] = (),
                limits: Limits | None = None, screen: Screen | None = None) -> AdaptResult:
    """Trains the brain on the examples of the user task `data`, and replaces it if that finishes
    and passes the `limits`, if there are any.

    `share` of the items is of `data`; `light` trains no matrices. Of the brain's own user tasks
    only those in `tasks` are replayed. `overrides`: of its governor. Raises ConfigError if there is
    no brain or no such data, and as `train`.
    """
    data = absolute(data)
    with watched(signals) as signals, run_dir.locked() as run_dir:
        brain = run_dir.load_brain(log, recover=True)
        settle(run_dir)
        parent = governed(brain, overrides, log)
        parent = without_unnamed_tasks(parent, tasks, log, (data,))
        profile = profile_for(parent, data, share, minutes, steps, lr, light)
        if is_in_place(run_dir, brain, recipe_of(profile, data)):
            return AdaptResult()
        folder = run_dir.adaptation
        n_bytes, n_new_bytes = recorded_bytes(folder, data)
        recipe = recipe_of(profile, data, n_bytes)
        with begun(folder):
            enter(run_dir, recipe, lambda: _copy(data, n_bytes, folder.examples))
            task = load(data) if is_class_name(data) else Corpus(data, folder.examples)
            taught = Replay.read(run_dir, brain.meta, log).rules
            examples = examples_of(task, profile)
            old = Replay(replay.without(taught, {item.prompt for item in examples}))
            trained = TrainedBrain.of(brain, threads)
            result = _train(profile, folder, trained, task, old, limits, threads, log, signals,
                            screen)
        if not result.train or not result.train.finished:
            return result
        if result.refusal:
            discard(folder)
            return result
        adapted, rules = checkpoint.read(folder.checkpoint).tensors, replay.with_rule(
            taught, short(data), examples)
        publish(run_dir, brain, {key: adapted[key] for key in trained.params}, recipe,
                **{replay.KEY: replay.write(run_dir, rules)})
        if n_new_bytes:
            log(GROWN.format(data))
    return result


def _train(profile: Profile, folder: RunDir, trained: TrainedBrain, task: Task, old: Replay,
           limits: Limits | None, threads: int, log: Log, signals: StopSignals,
           screen: Screen | None) -> AdaptResult:
    """The scores before, the training, and what its limits say. Raises ConfigError if they cannot
    be told."""
    from seed.training.pipeline import train   # here, because it imports tinygrad
    loaded = {task.name: task}
    before = holdout_scores(profile, trained, old, loaded)
    if limits:
        check_provable(before, task.name, limits)
    uniform = _uniform_scores(profile, trained, old, loaded)
    acting = acting_of(profile, folder, trained, signals.stop.is_set) if limits else Acting()
    if acting is None:
        return AdaptResult(TrainResult(0, StopReason.STOPPED), before)
    result = train(profile, folder, threads, log, signals, lambda: trained.params,
                   known=trained.bodies, screen=screen, replay=old, loaded=loaded)
    reason = refusal(before, result.scores, task.name, limits, (
        acting, Acting(result.returns))) if limits and result.finished else ""
    return AdaptResult(result, before, reason, uniform)


def holdout_scores(profile: Profile, trained: TrainedBrain, old: Replay,
                   loaded: Mapping[str, Task]) -> list[Score]:
    """Of all that the training of a profile evaluates."""
    dataset = _evaluated(profile, old, loaded)
    return trained.scores(dataset.holdout(profile.curriculum.holdout_items), dataset)


def _uniform_scores(profile: Profile, trained: TrainedBrain, old: Replay,
                    loaded: Mapping[str, Task]) -> list[Score]:
    """As `holdout_scores`."""
    dataset = _evaluated(profile, old, loaded)
    return trained.scores(dataset.stated(profile.curriculum.holdout_items), dataset)


def _evaluated(profile: Profile, old: Replay, loaded: Mapping[str, Task]) -> Dataset:
    return Dataset(profile.curriculum, profile.identity, profile.train.seed, loaded, old.tasks())


def acting_of(profile: Profile, folder: RunDir, trained: TrainedBrain,
              stop_fn: StopFn) -> Acting | None:
    """How the brain acts in the bodies that are replayed; None if the run has to stop."""
    from seed.training.pipeline import facts_and_data, plays_of
    if not profile.body.rounds:
        return Acting()
    with suppress(StopRequested):   # in a call of a user's class
        facts, openers, stored = facts_and_data(profile, folder, trained.bodies, stop_fn)
        return plays_of(profile, trained.model, None, facts, openers, stored).evaluate(stop_fn)
    return None


def examples_of(task: Task, profile: Profile) -> list[Item]:
    """Those of a file that fit into a row, or some of a class."""
    if isinstance(task, Corpus):
        items = [item for item in task.items if item.level in task.levels]
    else:
        rng = dice(profile.train.seed, Stream.SAMPLE, 0)
        items = [task.generate(rng, level) for level in task.levels
                 for _ in range(replay.MAX_EXAMPLES // len(task.levels))]
    return [item for item in items if item_bytes(item) <= profile.train.seq_len + 1]


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
    discard(run_dir.adaptation)
    replay.remove_unnamed(run_dir)
    return True


def recorded_bytes(folder: RunDir, data: str) -> tuple[int, int]:
    """How many bytes of a file an adaptation reads, and how many there are beyond them: all, but
    for a last line that is being written; or as many as one that was interrupted has read, if the
    file has only grown since. Raises OSError."""
    total = whole_lines(file_of(data))
    with suppress(OSError):
        n = os.stat(folder.examples).st_size
        if n <= total and digest_of(blocks(folder.examples)) == digest_of(
                blocks(file_of(data), n)):
            return n, total - n
    return total, 0


def recipe_of(profile: Profile, data: str, n_bytes: int | None = None) -> bytes:
    """What defines an adaptation, but for the brain: options and so many first bytes of the file;
    by default its whole lines. Raises OSError if it cannot be read."""
    n_bytes = whole_lines(file_of(data)) if n_bytes is None else n_bytes
    return recipe_with(profile, digest_of(blocks(file_of(data), n_bytes)))


def recipe_with(profile: Profile, contents: str) -> bytes:
    """As recipe_of, with a digest of the contents. What only says when to learn is no part of it.
    """
    tables = replace(profile, governor=GovernorConfig(), live=LiveConfig()).to_dict()
    return json.dumps({"data": contents, **tables}, sort_keys=True).encode()


def enter(run_dir: RunDir, recipe: bytes, note_fn: Callable[[], None] = lambda: None) -> RunDir:
    """The directory of the adaptation of this recipe; emptied if the last one in it had another
    recipe or another brain. Then `note_fn` writes there what it is going to read. Raises OSError,
    and as that."""
    folder = run_dir.adaptation
    recipe += digest_of(blocks(run_dir.checkpoint)).encode()
    if _read_recipe(folder) != recipe:
        discard(folder)
        atomic_file.make_directory(folder.path)
        note_fn()
        atomic_file.write(folder.recipe, recipe)
    return folder


@contextmanager
def begun(folder: RunDir) -> Iterator[None]:
    """Bad input leaves nothing of an adaptation that has not trained yet: a copy of the examples
    may be large. What has trained can be resumed."""
    try:
        yield
    except ConfigError as error:
        if error.exit_code == BAD_INPUT and not folder.checkpoint.exists():
            discard(folder)
        raise


def discard(folder: RunDir) -> None:
    """Of an adaptation. Without its recipe nothing is continued, so that goes first: what a power
    cut leaves may lack anything."""
    with suppress(OSError):
        atomic_file.remove(folder.recipe)
    shutil.rmtree(folder.path, ignore_errors=True)


def _copy(data: str, n_bytes: int, path: Path) -> None:
    """Of a file of examples. Raises OSError, ConfigError."""
    if not is_class_name(data):
        check_memory(data, Path(data))
        atomic_file.copy(Path(data), path, n_bytes)


def publish(run_dir: RunDir, parent: Checkpoint, weights: dict[str, np.ndarray], recipe: bytes,
            **meta: Any) -> None:
    """Replaces the brain's weights by the adapted ones, and what they have changed in its metadata.
    Raises OSError; then nothing is lost."""
    undo_levels.publish(run_dir, {**parent.tensors, **weights}, {
        **parent.meta, **meta, "adapted": digest_of([recipe])})
    discard(run_dir.adaptation)
    replay.remove_unnamed(run_dir)


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
    """Restores the brain of before the last adaptation, bit for bit; again the one before that.

    Raises ConfigError if there is none or if the brain was trained since, CheckpointError if it is
    damaged.
    """
    with run_dir.locked() as run_dir:
        replay.remove_unnamed(run_dir)   # if an undo was interrupted
        undo_levels.restore(run_dir)
        discard(run_dir.adaptation)
        replay.remove_unnamed(run_dir)
