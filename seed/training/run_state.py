"""What a run's checkpoints hold beside tensors, and what a resumed run may change."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from seed.body.tensor_names import body_of, is_moment, play_of
from seed.config import Profile, from_dict
from seed.curriculum.state import CurriculumState
from seed.errors import ConfigError, printable
from seed.storage import checkpoint
from seed.storage.checkpoint import Checkpoint
from seed.storage.run_dir import Log, RunDir
from seed.task_names import moved
from seed.training.schedule import Plan
from seed.wavecore import layout

if TYPE_CHECKING:
    from seed.body.play import Bodies
    from seed.training.step import Learner

CHECKED_TABLES = ("selfplay", "teacher", "model", "curriculum", "train", "identity", "distill",
                  "body")
CHANGEABLE_TABLES = CHECKED_TABLES[:2]   # changes are logged; they hold for the steps to come
CHANGEABLE_KEYS = {"body": ("rounds", "curriculum_steps")}   # the same of single keys
KEYS_THAT_MAY_CHANGE = {   # of the others: they do not change what a step computes
    "train": ("steps", "minutes", "eval_every_minutes", "save_every_minutes",
              "save_grace_minutes", "write_gb_per_day"), "distill": ("parent",)}


@dataclass
class RunState:
    """What changes from step to step, beside the learner's tensors."""
    curriculum: CurriculumState
    step: int = 0                    # optimizer steps done
    plan: Plan = Plan()
    skipped: int = 0                 # steps whose loss or gradient was not finite
    nonfinite_in_a_row: int = 0
    rollbacks: int = 0
    previous_elapsed_s: float = 0.0  # training time before this process
    mean_loss: float = 0.0           # exponential; 0 before the first step; not in the checkpoint
    has_new_bodies: bool = False     # which the checkpoint that it is from has not

    @property
    def lr_scale(self) -> float:
        """Each rollback halves the rate."""
        return 0.5 ** self.rollbacks

    @property
    def is_complete(self) -> bool:
        return self.plan.total_steps is not None and self.step >= self.plan.total_steps

    @property
    def is_decaying(self) -> bool:
        return self.plan.decay_start is not None and self.step >= self.plan.decay_start

    def to_meta(self, profile: Profile, elapsed_s: float) -> dict[str, Any]:
        """Checkpoint metadata. A run by steps has nothing of the clock in its file."""
        return {"profile": profile.to_dict(), "curriculum": self.curriculum.to_dict(),
                "step": self.step, "plan": asdict(self.plan), "skipped": self.skipped,
                "nonfinite_in_a_row": self.nonfinite_in_a_row, "rollbacks": self.rollbacks,
                "elapsed_s": 0.0 if profile.train.steps else elapsed_s}

    @classmethod
    def from_meta(cls, meta: dict[str, Any]) -> RunState:
        return cls(CurriculumState.from_dict(meta["curriculum"]), meta["step"],
                   Plan(**meta["plan"]), meta["skipped"], meta["nonfinite_in_a_row"],
                   meta["rollbacks"], meta["elapsed_s"])


def resume(profile: Profile, run_dir: RunDir, learner: Learner, bodies: Bodies | None,
           log: Log) -> RunState | None:
    """The state of the newest checkpoint, whose tensors the learner and the bodies then have; None
    if there is none. Raises ConfigError, CheckpointError, OSError."""
    newest = run_dir.recover(log)
    if newest is None:
        return None
    then, config = from_dict(newest.meta["profile"]), profile.train
    names = {**moved(then.curriculum.tasks, profile.curriculum.tasks),
             **moved(then.body.rounds, profile.body.rounds)}
    for old, new in names.items():
        log(f"{printable(old)} is now read from {printable(new)}")
    _check_changes(profile.to_dict(), _renamed(then, names).to_dict(), newest.meta["step"], log)
    if bodies:   # it is averaged no more
        newest = newest.brain()
    expected = learner.state_dict() | (bodies.state_dict() if bodies else {})
    if any(key.startswith(checkpoint.TRAINED) for key in newest.tensors):
        expected |= {checkpoint.TRAINED + key: array
                     for key, array in learner.model.state_dict().items()}
    tensors = _with_bodies_of_now(newest, expected, bodies)
    checkpoint.check_tensors(tensors, expected, "checkpoint")
    learner.load_state_dict(tensors)
    if bodies:
        bodies.load(newest.tensors, newest.meta.get("bodies", {}))
    state = RunState.from_meta(newest.meta)
    state.curriculum = state.curriculum.renamed(names)
    state.has_new_bodies = bool(tensors.keys() - newest.tensors.keys())
    has_new_end = (state.plan.total_steps != config.steps if config.steps
                   else config.minutes > then.train.minutes)
    if has_new_end:
        state.plan = Plan()
    log(f"resuming from step {state.step} of {run_dir}")
    return state


def _with_bodies_of_now(newest: Checkpoint, fresh: Mapping[str, np.ndarray],
                        bodies: Bodies | None) -> dict[str, np.ndarray]:
    """The checkpoint's tensors. What it lacks of a body that is new since, tables, moments and
    rows, is as in `fresh`. Of one that plays no more the moments are, so that its tables keep every
    bit, and the rows are left out."""
    known, tensors = {"", *newest.meta.get("bodies", {})}, dict(newest.tensors)
    plays, learning, new_plays = {""}, {""}, set[str]()
    if bodies:
        plays, new_plays = plays | bodies.plays.keys(), bodies.new_plays(tensors)
        if not bodies.own_moments:
            learning |= {play.facts.codec.name for play in bodies.plays.values()}
    for key in newest.tensors:
        if play_of(key) not in plays:
            del tensors[key]
    for key in {k for k in tensors if is_moment(k)} - fresh.keys():   # it learns alone now
        del tensors[key]
    for key, array in fresh.items():
        is_new = body_of(key) not in known or play_of(key) in new_plays or is_moment(
            key) and key not in tensors   # it learned alone, or before there were any
        if is_new or body_of(key) not in learning and not key.startswith(layout.BODIES):
            tensors[key] = array
    return tensors


def _renamed(profile: Profile, names: Mapping[str, str]) -> Profile:
    """With other names of user tasks and bodies."""
    tasks = {names.get(name, name): weight for name, weight in profile.curriculum.tasks.items()}
    rounds = {names.get(name, name): n for name, n in profile.body.rounds.items()}
    return replace(profile, curriculum=replace(profile.curriculum, tasks=tasks),
                   body=replace(profile.body, rounds=rounds))


def _check_changes(now: dict[str, Any], then: dict[str, Any], step: int, log: Log) -> None:
    """Logs what has changed in a changeable table. Raises ConfigError naming the first key in which
    a resumed run must not differ from its start."""
    for table in CHECKED_TABLES:
        for key in {**now[table], **then[table]}:
            value, old = now[table].get(key), then[table].get(key)
            if value == old or key in KEYS_THAT_MAY_CHANGE.get(table, ()):
                continue
            if table not in CHANGEABLE_TABLES and key not in CHANGEABLE_KEYS.get(table, ()):
                raise ConfigError(f"{table}.{key} is {value!r}, but this run began with {old!r}: "
                                  f"use that, or another --run-dir")
            log(f"{table}.{key} is {value!r} from step {step} on; it was {old!r}")
