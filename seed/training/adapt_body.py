"""A body that has changed: a short training on it, or on what was recorded of it, with the old
body, the brain's other bodies and the curriculum as replay.

It is carried out, resumed, published and undone as the adaptation to a rule (adapt.py). The changed
body has the tables of the body that it was: the same observations and actions.
"""
from collections.abc import Collection
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from seed.body.episodes import METADATA, EpisodeFolder
from seed.body.open_body import body_name, opener_of_data
from seed.body.results import Acting
from seed.config import (DataGoal, DistillConfig, Profile, SelfplayConfig, TeacherConfig, from_dict,
                         nearest)
from seed.curriculum.consent import without_unnamed_tasks
from seed.errors import ConfigError, StopReason, StopRequested
from seed.evaluation import TrainedBrain
from seed.regular_file import blocks
from seed.storage import checkpoint
from seed.storage.run_dir import Log, RunDir
from seed.task_names import absolute, absolute_directory, file_of, is_class_name
from seed.training.adapt import (WARMUP_STEPS, digest_of, enter, is_in_place, publish, recipe_with,
                                 settle)
from seed.training.loop import TrainResult
from seed.training.stop_signals import StopSignals, watched

CHANGED_ROUNDS = 2   # of the changed body, for each one of any other and step of the curriculum
VALUE_ROUNDS = 8     # at first: the value and the next observation are learnt, the policy stays
DATA_VALUE_ROUNDS = 30


class BodyAdaptResult(NamedTuple):
    """`train` is None if this very adaptation is in place already."""
    train: TrainResult | None = None
    before: Acting = Acting()

    @property
    def after(self) -> Acting:
        return Acting(self.train.returns, self.train.choices) if self.train else Acting()


def adapt_to_body(run_dir: RunDir, body: str = "", data: str = "", same_as: str = "",
                  threads: int = 1, log: Log = print, signals: StopSignals | None = None, *,
                  minutes: float = 2.0, steps: int = 0, lr: float = 1e-3, light: bool = False,
                  tasks: Collection[str] = ()) -> BodyAdaptResult:
    """Trains the brain on the changed `body`, or on the directory of its episodes `data`, and
    replaces the brain if that finishes. `same_as`: the body that it was, if the brain has several.

    Raises ConfigError if there is no such body or data, and as `train`.
    """
    from seed.training.pipeline import facts_and_data, plays_of, train   # which import tinygrad
    with watched(signals) as signals, run_dir.locked() as run_dir:
        brain = run_dir.load_brain(log, recover=True)
        settle(run_dir)
        trained = TrainedBrain.of(brain, threads)
        parent = without_unnamed_tasks(from_dict(brain.meta["profile"]), tasks, log)
        source, name, contents, goal = _source(body, data)
        profile = profile_for_body(parent, source, name, goal,
                                   _tables_of(name, same_as, trained.bodies), list(trained.bodies),
                                   minutes, steps, lr, light)
        recipe = recipe_with(profile, contents)
        if is_in_place(run_dir, brain, recipe):
            return BodyAdaptResult()
        weights, folder = trained.params, enter(run_dir, recipe)
        before = None
        with suppress(StopRequested):   # in a call of a user's class
            facts, openers, stored = facts_and_data(profile, folder, trained.bodies,
                                                    signals.stop.is_set)
            before = plays_of(profile, trained.model, None, facts, openers,
                              stored).evaluate(signals.stop.is_set)
        if before is None:
            return BodyAdaptResult(TrainResult(0, StopReason.STOPPED))
        result = train(profile, folder, threads, log, signals, lambda: weights,
                       known=trained.bodies)
        if result.finished:
            adapted = checkpoint.read(folder.checkpoint)
            publish(run_dir, brain, {key: adapted.tensors[key] for key in weights}, recipe,
                    bodies=_with_ranges(brain.meta["bodies"], adapted.meta["bodies"]))
    return BodyAdaptResult(result, before)


def _with_ranges(bodies: dict[str, Any], adapted: dict[str, Any]) -> dict[str, Any]:
    """The records of a brain's bodies, with the ranges of values that its weights have now."""
    return {name: {**fields, "returns": adapted.get(name, fields)["returns"]}
            for name, fields in bodies.items()}


def profile_for_body(parent: Profile, source: str, name: str, data_goal: DataGoal | None,
                     tables: str, bodies: Collection[str], minutes: float, steps: int, lr: float,
                     light: bool = False) -> Profile:
    """The profile of the adaptation to the body `name`, with the tables of one of the brain's
    `bodies`. With a `data_goal` it is recorded in the directory `source`, else it plays. All bodies
    that can be opened without a file are replayed, and the curriculum if the brain has learnt it.
    """
    replay = {body: 1 for body in bodies if body != name and opener_of_data(body)}
    changed = {source: CHANGED_ROUNDS}
    return replace(
        parent, curriculum=replace(parent.curriculum, eval_every_steps=0),
        selfplay=SelfplayConfig(), teacher=TeacherConfig(), distill=DistillConfig(),
        body=replace(parent.body, rounds=replay if data_goal else {**changed, **replay},
                     data=changed if data_goal else {}, data_goal=data_goal or "choices",
                     value_rounds=DATA_VALUE_ROUNDS if data_goal == "rewards" else VALUE_ROUNDS,
                     same_as={source: tables} if name != tables else {}, novelty=0.0,
                     curriculum_steps=min(1, parent.body.curriculum_steps)),
        train=replace(parent.train, minutes=minutes, steps=steps, lr=lr, seed=parent.train.seed + 1,
                      warmup_steps=WARMUP_STEPS, eval_every_minutes=0.0,
                      trainable="no-matrices" if light else parent.train.trainable)).check()


def _source(body: str, data: str) -> tuple[str, str, str, DataGoal | None]:
    """Its key in the profile, the name of its body, a digest of the files, and body.data_goal of
    episodes: without rewards their choices are learnt."""
    if data:
        path = Path(absolute_directory(data))
        folder = EpisodeFolder(path)
        pieces = ([name.encode(), *blocks(path / name)] for name in (METADATA, *folder.files))
        goal: DataGoal = "rewards" if any(step.reward for step in folder.steps()) else "choices"
        return str(path), folder.body, digest_of(chain.from_iterable(pieces)), goal
    if is_class_name(body):
        return absolute(body), body_name(body), digest_of(blocks(file_of(body))), None
    return body, body, "", None


def _tables_of(name: str, same_as: str, bodies: Collection[str]) -> str:
    """The body of the brain that the body `name` was. Raises ConfigError."""
    tables = same_as or (name if name in bodies or len(bodies) != 1 else next(iter(bodies)))
    if tables not in bodies:
        if not bodies:
            raise ConfigError("the brain has no body: train it with --body or --data")
        raise ConfigError(f"this brain has no body {tables}{nearest(tables, bodies)}; say with "
                          f"--same-as which of its bodies has changed")
    return tables
