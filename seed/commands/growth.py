"""grow and train_growing: a brain becomes larger."""
import argparse
import dataclasses
import json
import math
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from seed.storage import atomic_file
from seed.commands.learn import report, train_brain
from seed.commands.size import climb, search_of
from seed.commands.start import DEFAULT, newest, prepare, profile_of, say
from seed.config import Profile, from_dict, load_profile, to_toml
from seed.errors import ConfigError
from seed.storage.run_dir import RunDir

if TYPE_CHECKING:
    from seed.resize.size_search import Search
    from seed.training.stop_signals import StopSignals

AUTO = "auto"


def run_grow(args: argparse.Namespace) -> int:
    prepare(args.threads)
    from seed.system_health import read
    from seed.resize.grow import in_shape_of
    from seed.training.memory_estimate import check_fits
    from seed.wavecore import submodel
    from seed.wavecore.layout import count_params
    with args.run_dir.locked():
        meta = newest(args.run_dir, repair=True).meta
        small = from_dict(meta["profile"])
        large = (_next(args.run_dir, small, meta["step"]) if args.to == AUTO else
                 in_shape_of(small, load_profile(args.to)))
        submodel.check(small.model, large.model)
        say(check_fits(large, args.threads, read(args.run_dir.path)))   # else it could never go on
        counts = (_become(args.run_dir, small, large) if large != small else
                  2 * [count_params(small.model)])   # as when it was killed at its very end
    print(json.dumps({"before": counts[0], "after": counts[1]}) if args.json else
          f"{counts[0]:,} parameters have become {counts[1]:,}; go on with: python -m seed train "
          f"--run-dir {args.run_dir} --threads {args.threads}, --minutes or --steps")
    return 0


def _next(run_dir: RunDir, small: Profile, step: int) -> Profile:
    """The next size up to the limit that was found in this directory; what has grown at this step
    stays as it is."""
    from seed.resize.growth_schedule import next_size, size_of
    if not run_dir.limit_profile.exists():
        raise ConfigError(f"{run_dir.limit_profile} is not there: find the limit with python -m "
                          f"seed scale --run-dir {run_dir}, or grow to a named profile")
    if (step, [*size_of(small)]) in _grown(run_dir):
        say(f"it has grown at step {step} already: train it, or grow it to a named profile")
        return small
    limit = load_profile(str(run_dir.limit_profile))
    if _exceeds(small, limit):
        raise ConfigError(f"the brain is {size_of(small)}, and the limit in "
                          f"{run_dir.limit_profile} is {size_of(limit)}: find its own with "
                          f"python -m seed scale --run-dir "
                          f"{run_dir}, or grow to a named profile")
    large = next_size(small, limit, lambda size: math.inf, 0.0)
    if large is None:
        raise ConfigError(f"the brain is as large as the limit in {run_dir.limit_profile}: find "
                          f"another with python -m seed scale, or grow to a named profile")
    return large


def _exceeds(profile: Profile, limit: Profile) -> bool:
    """Whether it is larger in anything."""
    from seed.resize.growth_schedule import size_of
    return any(a > b for a, b in zip(size_of(profile), size_of(limit)))


def _grown(run_dir: RunDir) -> list[tuple[int, list[int] | None]]:
    """At which steps it was about to grow, and to what."""
    from seed.storage.metrics import read
    return [(row["step"], row.get("size")) for row in read(run_dir.metrics, "grow")]


def _become(run_dir: RunDir, small: Profile, large: Profile) -> list[int]:
    """In place; the brain as it was is the previous generation until the next save."""
    from seed.resize.growth_schedule import size_of
    from seed.resize.grow import grow_brain
    from seed.storage.metrics import Metrics
    from seed.wavecore.layout import count_params
    brain = newest(run_dir, repair=True)
    grown = grow_brain(brain, large)
    counts = [count_params(profile.model) for profile in (small, large)]
    step, path, size = brain.meta["step"], run_dir.metrics, [*size_of(large)]
    if (step, size) not in _grown(run_dir):
        metrics = Metrics(path, step)   # else it was killed here
        metrics.write("grow", step, parameters=counts, size=size)
        metrics.sync()
    run_dir.save(grown.tensors, grown.meta)
    return counts


def run_ascend(args: argparse.Namespace) -> int:
    """One stage; the next begins in a new process in the place of this one, with nothing left of
    the smaller brain's buffers. So do growth and the examination at the end."""
    if not 0.1 <= args.minutes <= 1e6:
        raise ConfigError(f"--minutes is {args.minutes}: use 0.1 to 1000000")
    if args.steps is not None and args.steps < 1:
        raise ConfigError(f"--steps is {args.steps}: use at least 1")
    from seed.training.stop_signals import StopSignals, release
    requests = StopSignals().watch()
    args.profile = args.profile or DEFAULT   # of the search: the brain's own changes as it grows
    search, spent_s = _search(args, requests)
    from seed.curriculum.state import highest_grade
    from seed.resize.growth_schedule import Plateau, may_grow, next_size, size_of
    from seed.training.memory_estimate import check_fits
    from seed.errors import NotEnoughMemory
    from seed.system_health import read
    args.minutes = None if args.steps else max(0.1, args.minutes - spent_s / 60)
    found = _meta(args.run_dir)
    args.profile = None if found else args.profile   # the brain's own from here on
    profile, limit = profile_of(args), load_profile(str(args.run_dir.limit_profile))
    _check_below(profile, limit, new=not found)

    def larger(step: int, elapsed_s: float) -> Profile | None:
        """What the brain would grow into now."""
        cost = search.cost()

        def steps_left(size: Profile) -> float:
            step_s = cost.step_s(size)
            return profile.train.steps - step if profile.train.steps else (
                (60 * args.minutes - elapsed_s) / step_s if step_s else math.inf)
        size = next_size(profile, limit, steps_left, args.bytes_per_parameter)
        if size:
            try:
                check_fits(size, args.threads, read(args.run_dir.path))
            except (ConfigError, NotEnoughMemory) as error:
                say(f"it does not grow: {error}")
                return None
        return size
    step, elapsed_s = (found["step"], found["elapsed_s"]) if found else (0, 0.0)
    plateau = Plateau(args.run_dir.metrics, size_of(profile), step,
                      highest_grade(profile.curriculum))
    size = larger(step, elapsed_s)
    if found and size and may_grow(found) and plateau.is_level(step):
        release()
        if not requests.stop.is_set():
            with args.run_dir.locked():
                before, after = _become(args.run_dir, profile, size)
            say(f"the loss is level: {before:,} parameters become {after:,}")
            _go_on_as(*sys.argv[1:])
    result = train_brain(args, profile, args.run_dir, enough=plateau if size else None,
                         requests=requests)
    release()
    if result.enough and not requests.stop.is_set():
        _go_on_as(*sys.argv[1:])   # there it grows, if there is the time and the memory
    if not result.finished:
        return report(args, result)
    atomic_file.write(args.run_dir.grown_profile, to_toml(
        dataclasses.replace(profile, name="brain")).encode())
    _go_on_as("eval", f"--run-dir={args.run_dir}", f"--threads={args.threads}",
              f"--html={args.run_dir.report}", *(["--json"] if args.json else []))


def _search(args: argparse.Namespace, requests: "StopSignals") -> tuple["Search", float]:
    """The limit, and how many seconds all of an growth's processes have looked for it."""
    with args.run_dir.locked():
        search = search_of(args, 0.0 if args.steps else
                           args.bytes_per_parameter / (60 * args.minutes))
        began = time.monotonic() - _seconds(args.run_dir.search_seconds)

        def remember() -> None:
            atomic_file.write(args.run_dir.search_seconds,
                              json.dumps(time.monotonic() - began).encode())
        climb(args, search, requests, remember)   # what is known is not tried again
        return search, _seconds(args.run_dir.search_seconds)   # the same for every later process


def _check_below(profile: Profile, limit: Profile, new: bool) -> None:
    """Raises ConfigError if a brain that is to be `new` cannot grow up to the limit; says it of
    one that there is."""
    from seed.resize.growth_schedule import size_of
    if _exceeds(profile, limit):
        what = f"{profile.name} is {size_of(profile)}, larger than the limit, {size_of(limit)}"
        if new:
            raise ConfigError(f"{what}: begin with a smaller --profile")
        say(f"it does not grow: {what}; name the --profile that it began with")
    if profile.model.d_ff > 2 * profile.model.d_model:
        raise ConfigError(f"model.d_ff is {profile.model.d_ff}: what grows has at most twice its "
                          f"model.d_model, which is {profile.model.d_model}")


def _go_on_as(*arguments: str) -> NoReturn:
    """Another command of seed, in the place of this one."""
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "seed", *arguments])


def _meta(run_dir: RunDir) -> dict[str, Any] | None:
    """Of the newest brain, if there is one; its arrays would be held beside the learner's."""
    found = run_dir.load_newest(say)
    return found.meta if found else None


def _seconds(path: Path) -> float:
    """As an earlier process wrote it; 0 if the limit was not searched here."""
    try:
        found = float(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, OverflowError):
        return 0.0
    return found if 0 <= found < math.inf else 0.0
