"""A training as one call: builds what the loop needs, and runs it."""
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from seed import system_health
from seed.body.clone import ClonePlay
from seed.body.episodes import EpisodeFolder
from seed.body.facts import Facts, data_digests, facts_of, measure
from seed.body.open_body import body_name, opener
from seed.body.play import Bodies, BodyPlay, Play
from seed.body.stored import Stored, load
from seed.body.user_body import Opener, check_repeats
from seed.config import Profile, from_dict
from seed.curriculum.dataset import Dataset
from seed.errors import CheckpointError, ConfigError, StopReason, StopRequested
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
        try:
            return _train(profile, run_dir, threads, log, signals, weights_fn, early_stop_fn)
        except StopRequested:   # in a call of a body, before the first step
            with suppress(CheckpointError):
                return TrainResult(checkpoint.read_meta(run_dir.checkpoint)["step"],
                                   StopReason.STOPPED)
            return TrainResult(0, StopReason.STOPPED)


def _train(profile: Profile, run_dir: RunDir, threads: int, log: Log, signals: StopSignals,
           weights_fn: Callable[[], dict[str, np.ndarray]] | None,
           early_stop_fn: EarlyStopFn | None) -> TrainResult:
    install(log)
    _check_claim(run_dir)
    if profile.body.data:
        check_fits(profile, threads, system_health.read(run_dir.path))
    facts, openers, data = _facts(profile, run_dir, signals.stop.is_set)
    shapes = [fact.codec.body for fact in facts.values()]
    estimate = check_fits(profile, threads, system_health.read(run_dir.path), shapes)
    Dataset(profile.curriculum, profile.identity, profile.train.seed)  # its tasks exist
    log(estimate)
    learner, soft_targets = Learner(profile, threads, shapes), None
    plays = _plays(profile, learner, facts, openers, data)
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


def _facts(profile: Profile, run_dir: RunDir, stop_fn: Callable[[], bool]) -> tuple[
        dict[str, Facts], dict[str, Callable[[], Any]], dict[str, Stored]]:
    """Of the profile's bodies: as the run directory's brain has them, else measured now; what makes
    one, if it is to play; and the episodes of each directory. Calls of a user's class end when
    `stop_fn` is true. Raises StopRequested, BodyError, ConfigError, also if the episodes have
    changed since the run began."""
    known, digests, config = dict[str, Facts](), dict[str, str](), profile.body
    for path in (run_dir.previous_checkpoint, run_dir.checkpoint):
        with suppress(CheckpointError):
            meta = checkpoint.read_meta(path)
            known, digests = facts_of(meta), data_digests(meta)
    facts, openers, data = dict[str, Facts](), dict[str, Callable[[], Any]](), dict[str, Stored]()
    for name in config.rounds:
        body, open_fn = body_name(name), opener(name, config)
        if body in facts:
            raise ConfigError(f"two bodies are called {body}: rename a class")
        user_class = Opener.within(open_fn)
        if user_class:
            user_class.stop_fn = stop_fn
        fact = known.get(body) or measure(name, open_fn, config, profile.train.seed)
        if user_class:
            check_repeats(user_class, fact.codec, profile.train.seed, config.randomize)
        facts[body], openers[body] = fact, open_fn
    for directory in config.data:
        folder = EpisodeFolder(Path(directory))
        known_fact = facts.get(folder.body, known.get(folder.body))
        stored = load(folder, known_fact.codec if known_fact else None, config.discount)
        if digests.get(directory, stored.digest) != stored.digest:
            raise ConfigError(f"{directory} has other episodes than this run began with: restore "
                              f"them, or use another --run-dir")
        facts[folder.body] = known_fact or Facts(stored.codec, stored.values)
        data[directory] = stored
    return facts, openers, data


def _plays(profile: Profile, learner: Learner, facts: Mapping[str, Facts],
           openers: Mapping[str, Callable[[], Any]], data: Mapping[str, Stored]) -> Bodies:
    model, optim, seed = learner.model, learner.optim, profile.train.seed
    plays: list[Play] = [BodyPlay(model, optim, facts[body], open_fn, profile.body, seed)
                         for body, open_fn in openers.items()]
    names = set(openers)   # of bodies whose returns are known
    for directory, stored in data.items():
        name = stored.codec.name
        plays.append(ClonePlay(model, optim, directory, stored, facts[name], profile.body, seed,
                               name not in names))
        names.add(name)
    return Bodies(plays, profile.body)


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
