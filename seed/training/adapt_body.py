"""A body that has changed: a short training on it, or on what was recorded of it.

From recorded rewards a model of the body is fitted, in which the brain practises. Only the tables
of the changed body learn, which begin as those of the body that it was: the layers, other bodies
and the curriculum keep every bit. Where it plays the body itself, or clones recorded choices, all
weights learn, with the old body, the brain's other bodies and the curriculum as replay.

It is carried out, resumed, published and undone as the adaptation to a rule (adapt.py).
"""
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from seed.body.codec import Codec
from seed.body.episodes import MAX_NAME, EpisodeFolder, is_body_name
from seed.body.facts import Facts, begun_sizes
from seed.body.open_body import body_name, opener_of_data
from seed.body.results import Acting
from seed.config import DataGoal, DistillConfig, Profile, SelfplayConfig, TeacherConfig, from_dict
from seed.curriculum.consent import without_unnamed_tasks
from seed.errors import ConfigError, StopReason, StopRequested, printable
from seed.evaluation import TrainedBrain
from seed.evaluation.acceptance import (Limits, body_refusal, choice_figure, refusal,
                                        return_figures)
from seed.regular_file import blocks, read_bytes
from seed.settings import nearest
from seed.storage import atomic_file, checkpoint
from seed.storage.checkpoint import Checkpoint
from seed.storage.replay import Replay
from seed.storage.run_dir import Log, RunDir
from seed.task_names import absolute, absolute_directory, file_of, is_class_name
from seed.storage.undo_levels import settle
from seed.terminal.screen import Screen
from seed.training.adapt import (GROWN, WARMUP_STEPS, begun, digest_of, discard, enter, governed,
                                 holdout_scores, is_in_place, publish, recipe_with)
from seed.training.loop import TrainResult
from seed.training.stop_signals import StopSignals, watched

CHANGED_ROUNDS = 2   # of the changed body, for each one of any other and step of the curriculum
FACTS = {"codec", "returns", "rate_hz"}   # of a body; what it has beside them is of its training
VALUE_ROUNDS = 8     # at first: the value and the next observation are learnt, the policy stays


class BodyAdaptResult(NamedTuple):
    """How an adaptation to a body ended. `train` is None if this very one is in place already.
    `refusal`: why the brain before stays, if the adapted one does not pass the limits."""
    train: TrainResult | None = None
    before: Acting = Acting()
    in_context: float | None = None   # return of the brain before, where it remembers the body
    refusal: str = ""

    @property
    def after(self) -> Acting:
        """As `before`, of the adapted brain."""
        return Acting(self.train.returns, self.train.choices) if self.train else Acting()

    @property
    def facts(self) -> dict[str, Any]:
        """For JSON."""
        return {"before": self.before.to_dict(), "after": self.after.to_dict(),
                "in_context": self.in_context, "scores": self.train.scores if self.train else []}


def adapt_to_body(run_dir: RunDir, body: str = "", data: str = "", same_as: str = "",
                  threads: int = 1, log: Log = print, signals: StopSignals | None = None, *,
                  new_name: str = "", minutes: float = 2.0, steps: int = 0, lr: float = 1e-3,
                  light: bool = False, tasks: Collection[str] = (), is_whole: bool = False,
                  overrides: Sequence[str] = (), limits: Limits | None = None,
                  screen: Screen | None = None) -> BodyAdaptResult:
    """Trains the brain on the changed `body`, or on the directory of its episodes `data`, and
    replaces the brain if that finishes and passes the `limits`, if there are any. `same_as`: the
    body that it was, if the brain has several. `new_name`: of the changed body, if not the one in
    its episodes. If it `is_whole`, all weights learn in the model too, beside other bodies and the
    curriculum. `overrides`: of its governor.

    Raises ConfigError if there is no such body or data, and as `train`.
    """
    with watched(signals) as signals, run_dir.locked() as run_dir:
        brain = run_dir.load_brain(log, recover=True)
        settle(run_dir)
        trained = TrainedBrain.of(brain, threads)
        parent = governed(brain, overrides, log)
        parent = without_unnamed_tasks(parent, tasks, log)
        source = _source(body, data, new_name, run_dir.adaptation)
        if new_name and not is_body_name(new_name):
            raise ConfigError(f"--as {printable(new_name)[:60]} is no name of a body: use up to "
                              f"{MAX_NAME} characters that can be printed")
        if new_name and source.goal != "model":
            raise ConfigError(f"--as {new_name}: only recorded rewards give a changed body tables "
                              f"of its own; leave out --as")
        old = _body_before(source, same_as, trained.bodies)
        profile = profile_for_body(parent, source, old, trained.bodies, minutes, steps, lr, light,
                                   is_whole)
        recipe = recipe_with(profile, source.contents + same_as)
        if is_in_place(run_dir, brain, recipe):
            return BodyAdaptResult()
        if source.goal == "model":
            if old == source.name:
                log(f"{old} is replaced by the changed body; --as NAME keeps both")
            brain = with_body(brain, old, source.name)
            trained = TrainedBrain.of(brain, threads)
        return _carry_out(run_dir, brain, trained, profile, source, recipe, limits, threads, log,
                          signals, screen)


def _carry_out(run_dir: RunDir, brain: Checkpoint, trained: TrainedBrain, profile: Profile,
               source: "Source", recipe: bytes, limits: Limits | None, threads: int, log: Log,
               signals: StopSignals, screen: Screen | None) -> BodyAdaptResult:
    """The training, what its limits say, and the publication."""
    from seed.training.pipeline import train   # here, because it imports tinygrad
    folder, taught = run_dir.adaptation, Replay(Replay.read(run_dir, brain.meta, log).rules)
    with begun(folder):
        enter(run_dir, recipe, lambda: _note(folder, source))
        before, in_context = _evaluate(profile, folder, trained, source, signals.stop.is_set)
        if before is None:
            return BodyAdaptResult(TrainResult(0, StopReason.STOPPED))
        scores = holdout_scores(profile, trained, taught, {}) if (
            limits and not profile.body.is_alone) else []
        result = train(profile, folder, threads, log, signals, lambda: trained.params,
                       known=trained.bodies, screen=screen, replay=taught)
    outcome = BodyAdaptResult(result, before, in_context)
    if not result.finished:
        return outcome
    adapted = checkpoint.read(folder.checkpoint)
    weights = {key: adapted.tensors[key] for key in trained.params}
    if limits:
        after = replace(trained, params=weights)
        outcome = outcome._replace(refusal=refusal(scores, result.scores, "", limits) or _refusal(
            source, trained, after, outcome, limits))
    if outcome.refusal:
        discard(folder)
    else:
        publish(run_dir, brain, weights, recipe,
                bodies=_with_measured(brain.meta["bodies"], adapted.meta["bodies"]))
    if source.has_grown:
        log(GROWN.format(source.key))
    return outcome


def _note(folder: RunDir, source: "Source") -> None:
    """What an adaptation reads of episodes that may grow. Raises OSError."""
    if source.sizes:
        atomic_file.write(folder.episode_sizes, json.dumps(source.sizes).encode())
        atomic_file.write(folder.episodes_digest, source.contents.encode())


def _refusal(source: "Source", trained: TrainedBrain, adapted: TrainedBrain,
             outcome: BodyAdaptResult, limits: Limits) -> str:
    """Why the adapted brain may not act: the changed body has to be better, in another model than
    it has practised in if that is what it learnt from, and no other body worse."""
    if source.goal == "model":
        from seed.evaluation.in_model import in_model, unexplained
        explained, _, new = in_model(trained, adapted, source.name, Path(source.key),
                                     sizes=source.sizes)
        reason = unexplained(explained, Path(source.key))
        if reason:
            return reason
    returns = return_figures(outcome.before, outcome.after)
    if source.goal == "choices":
        new, = (choice_figure(*rows) for rows in zip(
            outcome.before.choices, outcome.after.choices) if rows[0].data == source.key)
    elif not source.goal:
        new, = (row for row in returns if row.name == source.name)
    return body_refusal(new, [row for row in returns if row.name != source.name], limits)


def _evaluate(profile: Profile, folder: RunDir, trained: TrainedBrain, source: "Source",
              stop_fn: Callable[[], bool]) -> tuple[Acting | None, float | None]:
    """Of the brain before, and its return in a body that it remembers, if that is not recorded;
    None if the run has to stop. The episodes that it loads are no longer in memory afterwards."""
    from seed.training.pipeline import facts_and_data, plays_of
    with suppress(StopRequested):   # in a call of a user's class
        facts, openers, stored = facts_and_data(profile, folder, trained.bodies, stop_fn)
        plays = plays_of(profile, trained.model, None, facts, openers, stored)
        before = plays.evaluate(stop_fn)
        return before, None if source.goal else plays.evaluate_in_context(source.name, stop_fn)
    return None, None


def with_body(brain: Checkpoint, old: str, name: str) -> Checkpoint:
    """The brain with a body `name` that is for now as the body `old`, with tables of its own.
    Raises ConfigError if the training of the brain has a body of that name."""
    if name == old:
        return brain
    if set(brain.meta["bodies"].get(name, {})) - FACTS:
        raise ConfigError(f"the brain is trained on a body {name}, which was no {old}: give the "
                          f"changed one another name with --as")
    fields = {key: value for key, value in brain.meta["bodies"][old].items() if key in FACTS}
    fields["codec"] = {**fields["codec"], "name": name}
    config, tensors = from_dict(brain.meta["profile"]).model, dict(brain.tensors)
    shapes = [Codec.from_dict({**fields["codec"], "name": each}).body for each in (old, name)]
    for before, block in zip(*(shape.blocks(config) for shape in shapes)):
        tensors[block.name] = tensors[before.name]
        for letter in "mv":   # the optimizer's moments
            tensors[f"{letter}.{block.name}"] = np.zeros_like(tensors[before.name])
    return brain._replace(tensors=tensors, meta={
        **brain.meta, "bodies": {**brain.meta["bodies"], name: fields}})


def _with_measured(bodies: dict[str, Any], adapted: dict[str, Any]) -> dict[str, Any]:
    """The records of a brain's bodies, with what the adaptation has measured: the ranges of values
    that the weights have now, and the rates of episodes."""
    return {name: fields | {key: value for key, value in adapted.get(name, {}).items()
                            if key in FACTS - {"codec"}} for name, fields in bodies.items()}


class Source(NamedTuple):
    """What the brain adapts to."""
    key: str                 # in the tables of the profile
    name: str                # of the body, for the brain
    recorded_name: str       # of the body, as it says itself
    contents: str            # a digest of the files, as they were when it began
    goal: DataGoal | None    # of episodes: without rewards their choices are learnt; None: it plays
    sizes: dict[str, int] | None = None   # of their files
    has_grown: bool = False


def profile_for_body(parent: Profile, source: Source, old: str, bodies: Mapping[str, Facts],
                     minutes: float, steps: int, lr: float, light: bool = False,
                     is_whole: bool = False) -> Profile:
    """The profile of the adaptation of the brain's body `old`. Where all weights learn, all of its
    `bodies` that can be opened without a file are replayed, and the curriculum if the brain has
    learnt it."""
    changed, body = {source.key: CHANGED_ROUNDS}, source.name
    in_model = source.goal == "model"
    only_tables = in_model and not is_whole
    replay = {} if only_tables else {name: 1 for name, facts in bodies.items()
                                     if name != body and opener_of_data(name, facts.codec)}
    n_steps = parent.body.curriculum_steps
    tables = body if in_model else old
    return replace(
        parent, curriculum=replace(parent.curriculum, eval_every_steps=0),
        selfplay=SelfplayConfig(), teacher=TeacherConfig(), distill=DistillConfig(),
        body=replace(parent.body, rounds=replay if source.goal else {**changed, **replay},
                     data=changed if source.goal else {}, data_goal=source.goal or "choices",
                     value_rounds=VALUE_ROUNDS, novelty=0.0, max_lr=lr,
                     same_as={source.key: tables} if source.recorded_name != tables else {},
                     curriculum_steps=0 if only_tables else n_steps if is_whole else
                     min(1, n_steps)),
        train=replace(parent.train, minutes=minutes, steps=steps,
                      lr=lr, seed=parent.train.seed + 1, warmup_steps=WARMUP_STEPS,
                      eval_every_minutes=0.0,
                      trainable="tables" if only_tables else
                      "no-matrices" if light else parent.train.trainable)).check()


def _source(body: str, data: str, new_name: str, adaptation: RunDir) -> Source:
    """`adaptation`: its directory. One that was interrupted is continued with what it has read, if
    the episodes have only grown since."""
    if data:
        path = Path(absolute_directory(data))
        now = folder = EpisodeFolder(path)
        with suppress(OSError):   # another directory, or a file is gone
            begun = EpisodeFolder(path, begun_sizes(adaptation))
            if begun.contents_digest() == read_bytes(adaptation.episodes_digest).decode():
                folder = begun
        goal: DataGoal = "model" if any(step.reward for step in folder.steps()) else "choices"
        return Source(str(path), new_name or folder.body, folder.body, folder.contents_digest(),
                      goal, folder.sizes, folder.sizes != now.sizes)
    if is_class_name(body):
        name = body_name(body)
        return Source(absolute(body), name, name, digest_of(blocks(file_of(body))), None)
    return Source(body, body, body, "", None)


def _body_before(source: Source, same_as: str, bodies: Collection[str]) -> str:
    """The body of the brain that the changed one was. Raises ConfigError."""
    only = list(bodies) if len(bodies) == 1 else []
    known = [name for name in (source.name, source.recorded_name, *only) if name in bodies]
    old = same_as or (known or [source.name])[0]
    if old not in bodies:
        if not bodies:
            raise ConfigError("the brain has no body: train it with --body or --data")
        raise ConfigError(f"this brain has no body {old}{nearest(old, bodies)}; say with "
                          f"--same-as which of its bodies has changed")
    return old
