"""The slow loop: while the robot rests, all weights learn from everything.

A copy of the brain practises in a model of what was lived, and repeats its other bodies and its
curriculum; before, it may grow by one size, which changes nothing that it computes. What the mid
loop has learnt meanwhile is carried over (plane.py), so days may pass between start and end.
"""
import math
from dataclasses import replace

from seed.config import from_dict
from seed.errors import ConfigError, StopReason
from seed.live.brains import Brains
from seed.live.learn import BASE, EPISODES, QUIET, SLOW, Candidate, Plan
from seed.live.plane import carried
from seed.profile_file import load_profile
from seed.resize import grow_brain
from seed.resize.growth_schedule import next_profile
from seed.storage import RunDir, checkpoint
from seed.storage.run_dir import Log
from seed.training import adapt_to_body


def consolidate(work: RunDir, brains: Brains, plan: Plan, threads: int,
                log: Log) -> tuple[Candidate, RunDir]:
    """What is to be judged beside the brain that acts now, and its directory. Raises ConfigError,
    CheckpointError, BodyError, OSError."""
    assert brains.promoted
    candidate = Candidate("", brains.promoted.brain, loop=SLOW)
    if plan.grow_to:
        _grow(work, plan.grow_to, threads, log)
    train = adapt_to_body(work, data=str(work.path / EPISODES), threads=threads, log=log,
                          minutes=plan.minutes, is_whole=True, overrides=QUIET).train
    if train and train.reason is not StopReason.FINISHED:
        return candidate._replace(is_finished=False), work
    if candidate.parent == plan.parent:
        return candidate, work
    return carried(work, brains, SLOW, log)


def _grow(work: RunDir, to: str, threads: int, log: Log) -> None:
    """By one size, unless that has been done. Raises ConfigError, CheckpointError."""
    base = from_dict(checkpoint.read_meta(work.path / BASE)["profile"])
    if from_dict(work.load_brain(log).meta["profile"]).model != base.model:
        return
    limit = replace(load_profile(to), train=base.train)
    larger = next_profile(base, limit, lambda profile: math.inf, 0.0)
    if larger is None:
        raise ConfigError(f"live.grow_to is {to}: the brain is as large as that already")
    counts = grow_brain(work, larger, threads, log)
    log(f"grew from {counts.before:,} to {counts.after:,} parameters")
