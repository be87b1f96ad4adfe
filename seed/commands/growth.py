"""grow and ascend: a brain becomes larger."""
import argparse
import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from seed.commands.examine import run_eval
from seed.commands.learn import report, train_brain
from seed.commands.size import LIMIT, climb, search_of, write
from seed.commands.start import DEFAULT, newest, prepare, profile_of, say
from seed.config import ConfigError, Profile, from_dict, load_profile, to_toml

SEARCHED = "searched_s.json"   # how long an ascent has looked for its limit
BRAIN, REPORT = "brain.toml", "report.html"


def run_grow(args: argparse.Namespace) -> int:
    prepare(args.threads)
    from seed.training.grow import in_shape_of
    from seed.training.lock import locked
    large = load_profile(args.to)
    with locked(args.run_dir):
        small = from_dict(newest(args.run_dir).meta["profile"])
        counts = _become(args, small, in_shape_of(small, large))
    print(json.dumps({"before": counts[0], "after": counts[1]}) if args.json else
          f"{counts[0]:,} parameters have become {counts[1]:,}; go on with: python -m seed train "
          f"--run-dir {args.run_dir}, --minutes or --steps")
    return 0


def _become(args: argparse.Namespace, small: Profile, large: Profile) -> list[int]:
    """In place; the brain as it was is the previous generation until the next save."""
    from seed.training import checkpoint
    from seed.training.grow import grow_brain
    from seed.training.metrics import Metrics, read
    from seed.wavecore.layout import count_params
    brain = newest(args.run_dir)
    grown = grow_brain(brain, large)
    counts = [count_params(profile.model) for profile in (small, large)]
    step, path = brain.meta["step"], args.run_dir / "metrics.jsonl"
    if (step, counts) not in [(row["step"], row["parameters"]) for row in read(path, "grow")]:
        Metrics(path, step).write("grow", step, parameters=counts)   # else it was killed here
    checkpoint.save(args.run_dir, grown.tensors, grown.meta)
    return counts


def run_ascend(args: argparse.Namespace) -> int:
    """One stage; the next begins in a new process in the place of this one, with nothing left of
    the smaller brain's buffers."""
    if not 0.1 <= args.minutes <= 1e6:
        raise ConfigError(f"--minutes is {args.minutes}: use 0.1 to 1000000")
    search = search_of(args)
    from seed.training import checkpoint
    from seed.training.ascent import Plateau, may_grow, next_size
    from seed.training.lock import locked
    from seed.training.signals import release
    from seed.wavecore.layout import count_params
    searched, began = args.run_dir / SEARCHED, time.monotonic()
    with locked(args.run_dir):
        climb(args, search)   # what is known is not tried again
        spent_s = _seconds(searched) + time.monotonic() - began
        write(searched, json.dumps(spent_s))
    args.minutes = None if args.steps else max(0.1, args.minutes - spent_s / 60)
    if (args.run_dir / checkpoint.NAME).exists():
        args.profile = None   # the brain's own from here on
    else:
        args.profile = args.profile or DEFAULT
    profile, limit = profile_of(args), load_profile(str(args.run_dir / LIMIT))

    def larger() -> Profile | None:
        found, cost = checkpoint.read_newest(args.run_dir, say), search.cost()
        step, elapsed_s = (found.meta["step"], found.meta["elapsed_s"]) if found else (0, 0.0)

        def steps_left(size: Profile) -> float:
            step_s = cost.step_s(size)
            return profile.train.steps - step if profile.train.steps else (
                (60 * args.minutes - elapsed_s) / step_s if step_s else float("inf"))
        return next_size(profile, limit, steps_left, args.bytes_per_parameter)
    plateau = Plateau(args.run_dir / "metrics.jsonl", count_params(profile.model))
    found = checkpoint.read_newest(args.run_dir, say)
    if found and may_grow(found.meta) and plateau.is_level(found.meta["step"]) and larger():
        return _grow_and_go_on(args, profile, larger)   # it was killed on its way to that
    result = train_brain(args, profile, args.run_dir, enough=plateau if larger() else None)
    if result.enough:
        return _grow_and_go_on(args, profile, larger)
    if not result.finished:
        return report(args, result)
    write(args.run_dir / BRAIN, to_toml(dataclasses.replace(profile, name="brain")))
    release()
    args.html, args.items = args.run_dir / REPORT, None
    return run_eval(args)


def _grow_and_go_on(args: argparse.Namespace, profile: Profile,
                    larger: Callable[[], Profile | None]) -> NoReturn:
    """In a new process; the brain stays as it is if there is no time any more to grow."""
    from seed.training.lock import locked
    size = larger()
    if size:
        with locked(args.run_dir):
            before, after = _become(args, profile, size)
        say(f"the loss is level: {before:,} parameters become {after:,}")
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "seed", *sys.argv[1:]])


def _seconds(path: Path) -> float:
    """As an earlier process wrote it; 0 if the limit was not searched here."""
    try:
        return float(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return 0.0
