"""A training as one call: builds what the loop needs, and runs it."""
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np

from seed import system_health
from seed.body.facts import Facts, facts_of, measure
from seed.body.open_body import body_name, opener
from seed.body.play import Bodies, BodyPlay
from seed.body.user_body import Opener, check_repeats
from seed.config import Profile, from_dict
from seed.curriculum.dataset import Dataset
from seed.errors import CheckpointError, ConfigError, StopReason
from seed.practice import distill
from seed.practice.teacher import open_teacher
from seed.storage import checkpoint
from seed.storage.run_dir import Log, RunDir
from seed.training import loop
from seed.training.loop import TrainResult
from seed.training.memory_estimate import check_fits
from seed.training.session import EarlyStopFn, Hooks
from seed.training.step import Learner
from seed.training.stop_signals import StopSignals, watched
from seed.training.throttle import Throttle
from seed.wavecore.layout import count_params
from seed.wavecore.tinygrad_seam import install


def train(profile: Profile, run_dir: RunDir, threads: int = 1, log: Log = print,
          signals: StopSignals | None = None,
          weights_fn: Callable[[], dict[str, np.ndarray]] | None = None,
          early_stop_fn: EarlyStopFn | None = None) -> TrainResult:
    """Trains a brain in `run_dir`, or resumes.

    A fresh brain begins with the named weights of `weights_fn`, if given. `signals` are those that
    the caller watches already; otherwise the run watches, and the caller's signal mask is restored
    at its end. Raises as `loop.run`; NotEnoughMemory, CompilerError.
    """
    with watched(signals) as signals, run_dir.locked() as run_dir:
        install(log)
        _check_claim(run_dir)
        facts = _facts(profile, run_dir)
        bodies = [fact.codec.body for fact, _ in facts]
        estimate = check_fits(profile, threads, system_health.read(run_dir.path), bodies)
        Dataset(profile.curriculum, profile.identity, profile.train.seed)  # its tasks exist
        log(estimate)
        learner = Learner(profile, threads, bodies)
        plays = Bodies([BodyPlay(learner.model, learner.optim, fact, open_fn, profile.body,
                                 profile.train.seed) for fact, open_fn in facts], profile.body)
        soft_targets = None
        if weights_fn and not run_dir.checkpoint.exists():
            learner.model.load_state_dict(weights_fn())
        if profile.distill.parent:
            throttle = Throttle(profile.governor, lambda: system_health.read(run_dir.path),
                                time.monotonic, signals.stop.wait, signals.stop.is_set)
            soft_targets = distill.prepare(profile, run_dir, threads, log,
                                           throttle.wait_while_paused)
            if not soft_targets:
                return TrainResult(0, StopReason.STOPPED if signals.stop.is_set()
                                   else StopReason.OUT_OF_MEMORY)
        return loop.run(profile, run_dir, learner, signals, Hooks(
            soft_targets_fn=soft_targets.batch if soft_targets else None,
            bodies=plays if facts else None,
            teacher=open_teacher(profile, run_dir, log), early_stop_fn=early_stop_fn))


def _facts(profile: Profile, run_dir: RunDir) -> list[tuple[Facts, Callable[[], Any]]]:
    """Of the profile's bodies: as the run directory's brain has them, else measured now; and what
    makes one. Raises BodyError, ConfigError."""
    stored: dict[str, Facts] = {}
    for path in (run_dir.previous_checkpoint, run_dir.checkpoint):
        with suppress(CheckpointError):
            stored = facts_of(checkpoint.read_meta(path))
    facts = []
    for name in profile.body.rounds:
        open_fn = opener(name)
        fact = stored.get(body_name(name)) or measure(name, open_fn, profile.body,
                                                      profile.train.seed)
        if isinstance(open_fn, Opener):
            check_repeats(open_fn, fact.codec, profile.train.seed, profile.body.randomize)
        facts.append((fact, open_fn))
    names = [body_name(name) for name in profile.body.rounds]
    if len(set(names)) < len(names):
        raise ConfigError(f"two bodies are called {max(names, key=names.count)}: rename a class")
    return facts


def _check_claim(run_dir: RunDir) -> None:
    """Raises CheckpointError if the newest checkpoint describes more weights than it has bytes:
    before a learner of that size is allocated."""
    for path in (run_dir.checkpoint, run_dir.previous_checkpoint):
        try:
            meta = checkpoint.read_meta(path)
            bodies = [fact.codec.body for fact in facts_of(meta).values()]
            n_params = count_params(from_dict(meta["profile"]).model, bodies)
            size = path.stat().st_size
        except (CheckpointError, OSError):
            continue   # the reason is told when it is read
        if 4 * n_params > size:
            raise CheckpointError(f"{path} describes {n_params:,} parameters and has {size:,} "
                                  f"bytes: use another --run-dir")
        return
