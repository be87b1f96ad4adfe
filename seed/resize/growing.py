"""A training in stages, from a small brain up to the largest that the board can train in time."""
import json
import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from seed import system_health
from seed.config import Profile, from_dict, load_profile, to_toml
from seed.curriculum.state import highest_grade
from seed.errors import ConfigError, NotEnoughMemory, StopReason
from seed.resize.grow import grow_in_place
from seed.resize.growth_schedule import Plateau, exceeds, may_grow, next_profile
from seed.resize.size_search import SearchOptions, SizeSearch, open_search
from seed.resize.trial import Size
from seed.storage import atomic_file
from seed.storage.run_dir import Log, RunDir
from seed.training.memory_estimate import check_fits
from seed.training.pipeline import TrainResult, train
from seed.training.stop_signals import StopSignals

MIN_MINUTES = 0.1   # of training, however long the search took


def train_growing(profile: Profile, run_dir: RunDir, threads: int = 1,
                  options: SearchOptions = SearchOptions(20.0), tokens_per_param: float = 60.0,
                  log: Log = print, signals: StopSignals | None = None,
                  reopen_fn: Callable[[dict[str, Any]], Profile] = from_dict,
                  restart_fn: Callable[[], object] = lambda: None) -> TrainResult:
    """Finds the limit of the board, then trains a brain that grows up to it.

    `profile` is that of the search and of the first stage; its train.minutes, which include the
    search, or its train.steps end the whole. A brain that is there resumes with the profile that
    `reopen_fn` makes of its metadata's. `tokens_per_param`: that a size has to have the time for.
    `restart_fn` is called between two stages: it may replace the process by one that calls this
    function again, and then nothing is left of the smaller brain's buffers.

    When finished, the brain's profile is in run_dir.grown_profile. Raises as SizeSearch.run and
    `train` do.
    """
    signals = signals or StopSignals().watch()
    while True:
        search, search_s = _search(profile, run_dir, threads, options, tokens_per_param, log,
                                   signals)
        newest = run_dir.load_newest(log)
        meta = newest.meta if newest else None
        del newest   # its arrays would be held beside the learner's
        now = reopen_fn(meta["profile"]) if meta else profile
        now = replace(now, train=replace(
            now.train, steps=profile.train.steps, minutes=now.train.minutes if profile.train.steps
            else max(MIN_MINUTES, profile.train.minutes - search_s / 60)))
        result = _stage(now, meta, search, run_dir, tokens_per_param, log, signals)
        if result.reason is not StopReason.STOPPED_EARLY or signals.stop.is_set():
            return result
        restart_fn()


def _search(profile: Profile, run_dir: RunDir, threads: int, options: SearchOptions,
            tokens_per_param: float, log: Log, signals: StopSignals) -> tuple[SizeSearch, float]:
    """The limit, and how many seconds the processes of this growth have searched for it."""
    min_tokens_s_per_param = 0.0 if profile.train.steps else (
        tokens_per_param / (60 * profile.train.minutes))
    with run_dir.locked():
        search = open_search(profile, run_dir, threads, options, min_tokens_s_per_param)
        started = time.monotonic() - _read_seconds(run_dir.search_seconds)

        def save_seconds() -> None:
            atomic_file.write(run_dir.search_seconds,
                              json.dumps(time.monotonic() - started).encode())
        search.run(log, signals.stop.is_set, save_seconds)
        return search, _read_seconds(run_dir.search_seconds)   # the same in every later process


def _stage(profile: Profile, meta: dict[str, Any] | None, search: SizeSearch, run_dir: RunDir,
           tokens_per_param: float, log: Log, signals: StopSignals) -> TrainResult:
    """Trains until the end, or until the brain is about to grow, or grows it: then STOPPED_EARLY.

    `meta`: of the brain that is there.
    """
    limit = load_profile(str(run_dir.limit_profile))
    _check_below_limit(profile, limit, meta is None, log)
    step, elapsed_s = (meta["step"], meta["elapsed_s"]) if meta else (0, 0.0)
    plateau = Plateau(run_dir.metrics, Size.of(profile), step, highest_grade(profile.curriculum))
    larger = _larger(profile, limit, search, step, elapsed_s, tokens_per_param, log)
    if meta and larger and may_grow(meta) and plateau.is_level(step):
        with run_dir.locked():
            counts = grow_in_place(run_dir, larger, log)
        log(f"loss is level: growing from {counts.before:,} to {counts.after:,} parameters")
        return TrainResult(step, StopReason.STOPPED_EARLY)
    result = train(profile, run_dir, search.threads, log=log, signals=signals,
                   early_stop_fn=plateau.update if larger else None)
    if result.finished:
        atomic_file.write(run_dir.grown_profile, to_toml(replace(profile, name="brain")).encode())
    return result


def _larger(profile: Profile, limit: Profile, search: SizeSearch, step: int, elapsed_s: float,
            tokens_per_param: float, log: Log) -> Profile | None:
    """What the brain would grow into now."""
    cost, train = search.cost(), profile.train

    def steps_left(sized: Profile) -> float:
        if train.steps:
            return train.steps - step
        step_s = cost.step_s(sized)
        return (60 * train.minutes - elapsed_s) / step_s if step_s else math.inf
    larger = next_profile(profile, limit, steps_left, tokens_per_param)
    if larger:
        try:
            check_fits(larger, search.threads, system_health.read(search.run_dir.path))
        except (ConfigError, NotEnoughMemory) as error:
            log(f"the brain does not grow: {error}")
            return None
    return larger


def _check_below_limit(profile: Profile, limit: Profile, is_new: bool, log: Log) -> None:
    """Raises ConfigError if a new brain cannot grow up to the limit; logs it of an old one."""
    if exceeds(profile, limit):
        reason = f"{profile.name} is {Size.of(profile)}, larger than the limit, {Size.of(limit)}"
        if is_new:
            raise ConfigError(f"{reason}: begin with a smaller --profile")
        log(f"the brain does not grow: {reason}; name the --profile that it began with")
    if profile.model.d_ff > 2 * profile.model.d_model:
        raise ConfigError(f"model.d_ff is {profile.model.d_ff}: a brain that grows needs at most "
                          f"twice its model.d_model, which is {profile.model.d_model}")


def _read_seconds(path: Path) -> float:
    """As an earlier process wrote it; 0 if none did or the file is damaged."""
    try:
        seconds = float(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, OverflowError):
        return 0.0
    return seconds if 0 <= seconds < math.inf else 0.0
