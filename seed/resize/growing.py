"""A training in stages, from a small brain up to the largest that the board can train in time."""
import json
import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from seed import system_health
from seed.config import Profile, from_dict
from seed.curriculum.state import highest_grade
from seed.errors import ConfigError, NotEnoughMemory, StopReason
from seed.profile_file import load_profile, to_toml
from seed.regular_file import read_json
from seed.resize.grow import grow_in_place
from seed.resize.growth_schedule import Plateau, exceeds, may_grow, next_profile
from seed.resize.size_search import SearchOptions, SizeSearch, open_search
from seed.resize.trial import Size
from seed.storage import atomic_file
from seed.storage.run_dir import Log, RunDir
from seed.terminal.screen import Screen
from seed.training.memory_estimate import check_fits
from seed.training.pipeline import TrainResult, train
from seed.training.stop_signals import StopSignals, watched
from seed.wavecore import submodel

MIN_MINUTES = 0.1   # of training, however long the search took


def train_growing(profile: Profile, run_dir: RunDir, threads: int = 1,
                  options: SearchOptions = SearchOptions(20.0), tokens_per_param: float = 60.0,
                  log: Log = print, signals: StopSignals | None = None,
                  reopen_fn: Callable[[dict[str, Any]], Profile] = from_dict,
                  restart_fn: Callable[[], object] = lambda: None,
                  screen: Screen | None = None) -> TrainResult:
    """Finds the limit of the board, then trains a brain that grows up to it.

    `profile` is that of the search and of a new brain; its train.minutes, search included, or its
    train.steps are those of the whole. An existing brain resumes with the profile that `reopen_fn`
    makes of the stored one. A size is tried, and grown into, only if the time suffices for
    `tokens_per_param` tokens for each parameter. `restart_fn` is called between two stages: it may
    replace the process by one that calls this function again, which frees all memory.

    When finished, the brain's profile is in run_dir.grown_profile. Raises as find_size and `train`.
    """
    budget = profile.train
    min_speed = 0.0 if budget.steps else tokens_per_param / (60 * budget.minutes)
    with watched(signals) as signals:
        while True:
            newest = run_dir.load_newest(log)
            meta = newest.meta if newest else None
            del newest   # frees its arrays before the learner allocates its own
            submodel.check_without_bodies(
                {**profile.body.rounds, **(meta.get("bodies", {}) if meta else {})})
            with run_dir.locked():
                search = open_search(profile, run_dir, threads, options, min_speed)
                search_s = _run_timed(search, log, signals)
            sized = reopen_fn(meta["profile"]) if meta else profile
            minutes = (sized.train.minutes if budget.steps
                       else max(MIN_MINUTES, budget.minutes - search_s / 60))
            sized = replace(sized, train=replace(sized.train, steps=budget.steps, minutes=minutes))
            result = _stage(sized, meta, search, tokens_per_param, log, signals, screen)
            if result.reason is not StopReason.STOPPED_EARLY or signals.stop.is_set():
                return result
            restart_fn()


def _run_timed(search: SizeSearch, log: Log, signals: StopSignals) -> float:
    """Runs a search. Returns the seconds that all processes of this growth have searched."""
    path = search.run_dir.search_seconds
    start_s = time.monotonic() - _read_seconds(path)
    search.run(log, signals.stop.is_set, lambda: atomic_file.write(
        path, json.dumps(time.monotonic() - start_s).encode()))
    return _read_seconds(path)   # the same in every later process


def _read_seconds(path: Path) -> float:
    """The stored seconds; 0 if there are none or the file is damaged."""
    try:
        seconds = float(read_json(path))
    except (OSError, ValueError, TypeError, OverflowError):
        return 0.0
    return seconds if 0 <= seconds < math.inf else 0.0


def _stage(profile: Profile, meta: dict[str, Any] | None, search: SizeSearch,
           tokens_per_param: float, log: Log, signals: StopSignals,
           screen: Screen | None) -> TrainResult:
    """Trains to the end or until the brain should grow, or grows it: the latter two are
    STOPPED_EARLY. `meta` is that of an existing brain."""
    run_dir = search.run_dir
    limit = load_profile(str(run_dir.limit_profile))
    _check_below_limit(profile, limit, meta is None, log)
    step, elapsed_s = (meta["step"], meta["elapsed_s"]) if meta else (0, 0.0)
    plateau = Plateau(run_dir.metrics, Size.of(profile), step, highest_grade(profile.curriculum))
    larger = _larger(profile, limit, search, step, elapsed_s, tokens_per_param, log)
    if meta and larger and may_grow(meta) and plateau.is_level(step):
        with run_dir.locked() as held_dir:
            counts = grow_in_place(held_dir, held_dir.load_brain(log, recover=True), larger)
        log(f"loss is level: growing from {counts.before:,} to {counts.after:,} parameters")
        return TrainResult(step, StopReason.STOPPED_EARLY)
    result = train(profile, run_dir, search.threads, log=log, signals=signals,
                   early_stop_fn=plateau.update if larger else None, screen=screen)
    if result.finished:
        atomic_file.write(run_dir.grown_profile, to_toml(replace(profile, name="brain")).encode())
    return result


def _check_below_limit(profile: Profile, limit: Profile, is_new: bool, log: Log) -> None:
    """Raises ConfigError if a new brain cannot grow up to the limit; logs it of an existing one."""
    if exceeds(profile, limit):
        reason = f"{profile.name} is {Size.of(profile)}, larger than the limit, {Size.of(limit)}"
        if is_new:
            raise ConfigError(f"{reason}: begin with a smaller --profile")
        log(f"the brain does not grow: {reason}; name the --profile that it began with")
    if profile.model.d_ff > 2 * profile.model.d_model:
        raise ConfigError(f"model.d_ff is {profile.model.d_ff}: a brain that grows needs at most "
                          f"twice its model.d_model, which is {profile.model.d_model}")


def _larger(profile: Profile, limit: Profile, search: SizeSearch, step: int, elapsed_s: float,
            tokens_per_param: float, log: Log) -> Profile | None:
    """The next size, if time and memory suffice for it now."""
    cost, budget = search.cost(), profile.train

    def steps_left(sized: Profile) -> float:
        if budget.steps:
            return budget.steps - step
        step_s = cost.step_s(sized)
        return (60 * budget.minutes - elapsed_s) / step_s if step_s else math.inf
    larger = next_profile(profile, limit, steps_left, tokens_per_param)
    if larger:
        try:
            check_fits(larger, search.threads, system_health.read(search.run_dir.path))
        except (ConfigError, NotEnoughMemory) as error:
            log(f"the brain does not grow: {error}")
            return None
    return larger
