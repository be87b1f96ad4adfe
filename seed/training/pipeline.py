"""A training as one call: builds what the loop needs, and runs it."""
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from seed import system_health
from seed.body.clone import ClonePlay, hide_last_action
from seed.body.episodes import EpisodeFolder
from seed.body.facts import Facts, begun_sizes, data_digests, facts_of, measure
from seed.body.model_play import ModelPlay
from seed.body.open_body import body_name, opener
from seed.body.play import Bodies, BodyPlay, Play
from seed.body.stored import Stored, load
from seed.body.tick_rate import is_same_rate
from seed.body.user_body import Opener, check_repeats
from seed.config import BodyConfig, Profile, from_dict
from seed.curriculum.dataset import Dataset
from seed.curriculum.task import Task
from seed.errors import CheckpointError, ConfigError, SeedError, StopReason, StopRequested
from seed.evaluation.html_report import write_report
from seed.practice import distill
from seed.practice.teacher import open_teacher
from seed.storage import checkpoint
from seed.storage.replay import Replay
from seed.storage.run_dir import Log, RunDir
from seed.terminal.screen import Screen
from seed.terminal_text import unbroken
from seed.training import loop
from seed.training.loop import TrainResult
from seed.training.memory_estimate import check_fits
from seed.training.session import EarlyStopFn, Hooks
from seed.training.step import Learner
from seed.training.stop_signals import StopSignals, watched
from seed.training.throttle import Throttle
from seed.wavecore.layout import count_params
from seed.wavecore.model import WaveCore
from seed.wavecore.optim import Optimizer
from seed.wavecore.tinygrad_seam import install


def train(profile: Profile, run_dir: RunDir, threads: int = 1, log: Log = print,
          signals: StopSignals | None = None,
          weights_fn: Callable[[], dict[str, np.ndarray]] | None = None,
          early_stop_fn: EarlyStopFn | None = None, known: Mapping[str, Facts] | None = None,
          screen: Screen | None = None, replay: Replay | None = None,
          loaded: Mapping[str, Task] = MappingProxyType({})) -> TrainResult:
    """Trains a brain in `run_dir`, or resumes.

    A fresh brain begins with the named weights of `weights_fn`, if given, and has the bodies
    `known`. `signals` are those that the caller watches already; otherwise the run watches, and the
    caller's signal mask is restored at its end. `screen`: standard error by default. `replay`: what
    adaptations have taught, by default as the brain in `run_dir` says. `loaded`: user tasks by
    name, whose files are not read again.

    Raises SeedError: ConfigError, CheckpointError, Diverged, NotEnoughMemory, CompilerError;
    OSError if the first save fails, SaveFailed if saving fails for longer than the grace.
    """
    with watched(signals) as signals, run_dir.locked() as run_dir:
        try:
            hooks = Hooks(
                screen=screen, early_stop_fn=early_stop_fn, loaded=loaded,
                replay=_replay_of(run_dir, log) if replay is None else replay)
            result = _train(profile, run_dir, threads, log, signals, weights_fn, known or {}, hooks)
            if result.finished:
                _write_report(run_dir, log)
            return result
        except StopRequested:   # in a call of a body, before the first step
            with suppress(CheckpointError):
                return TrainResult(checkpoint.read_meta(run_dir.checkpoint)["step"],
                                   StopReason.STOPPED)
            return TrainResult(0, StopReason.STOPPED)


def _train(profile: Profile, run_dir: RunDir, threads: int, log: Log, signals: StopSignals,
           weights_fn: Callable[[], dict[str, np.ndarray]] | None, known: Mapping[str, Facts],
           hooks: Hooks) -> TrainResult:
    install(log)
    _check_claim(run_dir)
    if profile.body.data:
        check_fits(profile, threads, system_health.read(run_dir.path))
    facts, openers, data = facts_and_data(profile, run_dir, known, signals.stop.is_set)
    shapes = [fact.codec.body for fact in facts.values()]
    estimate = check_fits(profile, threads, system_health.read(run_dir.path), shapes)
    Dataset(profile.curriculum, profile.identity, profile.train.seed, hooks.loaded)  # tasks exist
    log(estimate)
    learner, soft_targets = Learner(profile, threads, shapes), None
    _hide_last_actions(profile.body, learner.model, data)
    plays = plays_of(profile, learner.model, learner.optim, facts, openers, data)
    if weights_fn and not run_dir.checkpoint.exists():
        learner.load_weights(weights_fn())
    if profile.distill.parent:
        throttle = Throttle(profile.governor, lambda: system_health.read(run_dir.path),
                            time.monotonic, signals.stop.wait, signals.stop.is_set)
        try:
            soft_targets = distill.prepare(profile, run_dir, threads, log,
                                           throttle.wait_while_paused)
        finally:
            throttle.close()
        if not soft_targets:
            return TrainResult(0, StopReason.STOPPED if signals.stop.is_set()
                               else StopReason.OUT_OF_MEMORY)
    return loop.run(profile, run_dir, learner, signals, replace(
        hooks, soft_targets_fn=soft_targets.batch if soft_targets else None,
        bodies=plays if facts else None, teacher=open_teacher(profile, run_dir, log)))


def _replay_of(run_dir: RunDir, log: Log) -> Replay:
    """Of the newest checkpoint whose metadata can be read."""
    for path in (run_dir.checkpoint, run_dir.previous_checkpoint):
        with suppress(CheckpointError):
            return Replay.read(run_dir, checkpoint.read_meta(path), log)
    return Replay()


def _write_report(run_dir: RunDir, log: Log) -> None:
    """A page that cannot be written is told, and costs nothing else."""
    try:
        if run_dir.held:
            run_dir.held.check()   # the directory may be another run's by now
        write_report(run_dir)
    except (OSError, SeedError, MemoryError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        log(f"WARNING: {run_dir.report} is not written: {reason}; the brain is saved; write the "
            f"page with: {unbroken(f'seed report --run-dir {run_dir}')}")


def _hide_last_actions(config: BodyConfig, model: WaveCore, data: Mapping[str, Stored]) -> None:
    """From bodies that are only cloned; weights that are loaded afterwards replace it."""
    played = {config.same_as.get(name, body_name(name)) for name in config.rounds}
    for stored in data.values():
        if config.data_goal == "choices" and stored.codec.name not in played:
            hide_last_action(model, stored.codec)


def facts_and_data(profile: Profile, run_dir: RunDir, given: Mapping[str, Facts],
                   stop_fn: Callable[[], bool]) -> tuple[
        dict[str, Facts], dict[str, Callable[[], Any]], dict[str, Stored]]:
    """Of the profile's bodies: as the run directory's brain has them or as they are `given`, else
    measured now; what makes each body that is to play; and the episodes of each directory. Calls of
    a user's class end when `stop_fn` is true. Raises StopRequested, BodyError, ConfigError, also if
    the episodes have changed since the run began."""
    known, digests, config = dict(given), dict[str, str](), profile.body
    for path in (run_dir.previous_checkpoint, run_dir.checkpoint):
        with suppress(CheckpointError):
            meta = checkpoint.read_meta(path)
            known, digests = {**given, **facts_of(meta)}, data_digests(meta)
    facts, openers, data = dict(given), dict[str, Callable[[], Any]](), dict[str, Stored]()
    for name in config.rounds:
        open_fn, body = opener(name, config), config.same_as.get(name, body_name(name))
        if body_name(name) in openers:
            raise ConfigError(f"two bodies are called {body_name(name)}: rename a class")
        user_class = Opener.within(open_fn)
        if user_class:
            user_class.stop_fn = stop_fn
        fact = known.get(body) or measure(name, open_fn, config, profile.train.seed)
        if user_class:
            check_repeats(user_class, fact.codec, profile.train.seed, config.randomize)
        facts[body], openers[body_name(name)] = fact, open_fn
    for directory in config.data:
        folder = EpisodeFolder(Path(directory), begun_sizes(run_dir))
        body = config.same_as.get(directory, folder.body)
        known_fact = facts.get(body, known.get(body))
        rate_hz = known_fact.rate_hz if known_fact else None
        if directory not in digests and not is_same_rate(folder.rate_hz, rate_hz):
            raise ConfigError(f"{directory} was recorded at {folder.rate_hz:g} Hz, and {body} acts "
                              f"at {rate_hz:g} Hz: record it at that rate")
        stored = load(folder, known_fact.codec if known_fact else None, config.discount)
        if digests.get(directory, stored.digest) != stored.digest:
            raise ConfigError(f"{directory} has other episodes than this run began with: restore "
                              f"them, or use another --run-dir")
        if folder.body in known:   # the brain's name for what has changed, not for what it was
            stored = stored._replace(body=body)
        fact = known_fact or Facts(stored.codec, stored.values)
        facts[body] = fact._replace(rate_hz=rate_hz or folder.rate_hz)
        data[directory] = stored
    return {**facts, **{name: known[name] for name in known if name not in facts}}, openers, data


def plays_of(profile: Profile, model: WaveCore, optim: Optimizer | None,
             facts: Mapping[str, Facts], openers: Mapping[str, Callable[[], Any]],
             data: Mapping[str, Stored]) -> Bodies:
    """What takes turns in the training; without `optim` it can only be evaluated. Where several
    learn, each has an optimizer of its own: Muon's steps are as long whatever the gradient, so with
    shared moments a round would go on where the curriculum went, and the curriculum where the round
    did."""
    config, seed = profile.body, profile.train.seed
    changed = {body_name(name): body for name, body in config.same_as.items()}
    turns = {body_name(name): n for name, n in config.rounds.items()}
    own_moments = bool(optim) and config.takes_turns

    def optim_of(body: str) -> Optimizer | None:
        return Optimizer(model, profile.train, body) if own_moments else optim
    plays: list[Play] = []
    for name, open_fn in openers.items():   # a changed body is one, not drawn
        how = replace(config, randomize=False) if name in changed else config
        fact = facts[changed.get(name, name)]
        plays.append(BodyPlay(model, optim_of(fact.codec.name), fact, open_fn, how, seed, name,
                              turns[name] if config.takes_turns else 1))
    names = set(openers)   # of bodies whose returns are known
    play_class = ModelPlay if config.data_goal == "model" else ClonePlay
    for directory, stored in data.items():
        plays.append(play_class(model, optim_of(stored.codec.name), directory, stored,
                                facts[stored.codec.name], config, seed, stored.body not in names))
        names.add(stored.body)
    return Bodies(plays, config, facts, own_moments)


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
