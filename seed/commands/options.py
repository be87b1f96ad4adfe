"""Flags that several commands share, the profile that they describe, and their ranges."""
import argparse
import contextlib
import functools
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from seed.errors import ConfigError, NotEnoughMemory
from seed.interpreter import shown_command
from seed.storage import RunDir, runs
from seed.storage.atomic_file import make_directory
from seed.system_health import address_space_mb
from seed.task_names import absolute_directory, with_named_bodies
from seed.terminal_text import fitted, one_line

if TYPE_CHECKING:
    from seed.config import Profile
    from seed.evaluation.acceptance import Limits
    from seed.resize import SearchOptions
    from seed.storage.run_dir import Log
    from seed.terminal.screen import Screen

DEFAULT_PROFILE = "toy"
BODY_PROFILE = "control"   # if --body or --data is given
CURRICULUM_STEPS = 10      # for each body that a brain which knows only the curriculum gets
MIN_ADDRESS_SPACE_MB = 256
MAX_THREADS = 64
DEFAULT_THREADS = min(len(os.sched_getaffinity(0)), MAX_THREADS)   # a fast loop has its own core
RANGES: dict[str, tuple[float, float]] = {   # of numeric flags, in any command
    "threads": (1, MAX_THREADS), "seed": (0, 2 ** 63 - 1), "steps": (1, 1e18),
    "memory": (1e-3, 1e6),
    "items": (1, 1e5), "episodes": (1, 1e5),
    "temperature": (0, 100), "min_confidence": (0, 1), "max_bytes": (1, 1e6), "tokens": (1, 1e18),
    "turns": (1, 1e6), "count": (1, 1e6), "minutes": (1e-3, 1e6), "trial_seconds": (1, 86400),
    "tokens_per_s": (0, 1e9), "tokens_per_param": (0, 1e9),
    "min_gain": (0, 100), "max_loss": (0, 100),
    "learn_every": (0, 1e12), "learn_minutes": (1e-3, 1e6)}


def named(text: str) -> str:
    if not text:   # as of a variable that is not set
        raise argparse.ArgumentTypeError("it is empty: give a name")
    return text


def path(text: str) -> Path:
    return Path(named(text))


def run_dir(text: str) -> RunDir:
    return RunDir(path(text))


def add_run(parser: argparse.ArgumentParser, default: str = "newest") -> None:
    """RUN or --run-dir. `default`: the newest run; none, where a brain is changed; or, with the
    flag alone, optional or a new one."""
    newest = " (default: the newest in runs/)"
    texts = {"newest": newest, "optional": newest, "none": "",
             "new": " (default: the next number in runs/)"}
    where = parser.add_mutually_exclusive_group()
    if default in ("newest", "none"):
        where.add_argument("run", nargs="?", type=run_dir, metavar="RUN",
                           help=f"directory of the brain{texts[default]}")
    where.add_argument("--run-dir", type=run_dir, metavar="RUN",
                       help=f"directory of the brain and its metrics{texts[default]}")
    parser.set_defaults(default_run=default)


def add_threads(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--threads", type=int, default=DEFAULT_THREADS,
                        help="of a training or an evaluation (default: the cores, %(default)s)")


def add_brain(parser: argparse.ArgumentParser, default: str = "newest") -> None:
    add_run(parser, default)
    add_threads(parser)


def choose_run(args: argparse.Namespace) -> None:
    """Sets `args.run_dir`, to None only if it is optional. Raises ConfigError if none is named and
    one has to be."""
    if not hasattr(args, "default_run"):
        return
    args.run_dir = args.run_dir or getattr(args, "run", None) or next(
        iter(getattr(args, "runs", ())), None)
    args.is_run_told = args.run_dir is not None
    if args.run_dir:
        return
    if args.default_run == "optional" and (getattr(args, "file", None) or args.profile is not None):
        return   # that is what the command is about
    if args.default_run == "new":   # it is told when it begins
        args.run_dir = runs.run_to_train(Path(default_profile(args)).stem)
        return
    brains = runs.runs_in(runs.RUNS)
    if not brains and args.default_run == "optional":
        return
    if not brains or args.default_run == "none":
        raise ConfigError(
            f"no run is named: give one, such as {brains[-1]}" if brains else
            f"{runs.RUNS}/ has no brain: train one with {shown_command('train')}, or name its "
            f"directory with --run-dir")
    args.run_dir = brains[-1]
    log(f"run {args.run_dir}")


def log_of_run(args: argparse.Namespace) -> "Log":
    """`log`, before whose first line the run is told if nobody has named it: nothing is said of one
    that does not begin."""
    def tell(line: str) -> None:
        if not args.is_run_told:
            log(f"run {args.run_dir}")
        args.is_run_told = True
        log(line)
    return tell


def default_profile(args: argparse.Namespace) -> str:
    """The named profile, or that which a new brain of these flags gets."""
    acts = getattr(args, "bodies", None) or getattr(args, "data_dirs", None)
    return args.profile or (BODY_PROFILE if acts else DEFAULT_PROFILE)


def add_overrides(parser: argparse.ArgumentParser, *tables: str) -> None:
    """`tables`: whose keys the command takes; without, those of all."""
    which = f" in {' or '.join(f'[{table}]' for table in tables)}" if tables else ""
    parser.add_argument("--set", action="append", default=[], metavar="a.b=value",
                        dest="overrides", help=f"override one key of the profile{which}")
    parser.set_defaults(tables=tables)


def add_profile(parser: argparse.ArgumentParser, default: str | None = None,
                learns_bodies: bool = False) -> None:
    acts = f", or {BODY_PROFILE} with --body or --data" if learns_bodies else ""
    of_brain = f"that of the run's brain, or of a new one {DEFAULT_PROFILE}{acts}"
    parser.add_argument("--profile", default=default,
                        help=f"shipped profile or a .toml file (default: {default or of_brain})")
    add_overrides(parser)
    add_tasks(parser, "NAME[=WEIGHT]",
              "add a task: path.py:ClassName, items.jsonl or notes.txt; or let one that the brain "
              "names be used again")
    parser.add_argument("--seed", type=int, help="train.seed (default: the profile's)")


def add_tasks(parser: argparse.ArgumentParser, metavar: str = "NAME",
              text: str = "lets a user task of the brain, which is a file, be run or read; without "
                          "this it is left out") -> None:
    parser.add_argument("--task", action="append", default=[], metavar=metavar, dest="tasks",
                        help=text)


def add_bodies(parser: argparse.ArgumentParser, text: str) -> None:
    parser.add_argument("--body", action="append", default=[], metavar="NAME", dest="bodies",
                        help=text)


def add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", action="append", default=[], metavar="DIR", dest="data_dirs",
                        type=named, help="learn the choices of recorded episodes; may be repeated")


def add_budget(parser: argparse.ArgumentParser, minutes: float | None, what: str) -> None:
    default, steps = (f"{minutes:g}", "none") if minutes else ("the profile's",) * 2
    parser.add_argument("--minutes", type=float, default=minutes,
                        help=f"time budget of {what} (default: {default})")
    parser.add_argument("--steps", type=int,
                        help=f"optimizer steps instead (default: {steps})")


def add_limits(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--min-gain", type=float, default=1.0, metavar="X",
                        help="what was to be learnt has to be better by as many points of held-out "
                             "accuracy, or percent of the return, else the brain stays as it was "
                             "(exit code 3); 0: it need not")
    parser.add_argument("--max-loss", type=float, default=3.0, metavar="Y",
                        help="and nothing else may lose more than as many, beside what chance "
                             "explains")


def add_memory(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--memory", type=float, metavar="GB",
                        help="ceiling on the memory of the run and its children (default: the "
                             "profile's, 6 if it has none)")


def add_board(parser: argparse.ArgumentParser) -> None:
    add_memory(parser)
    parser.add_argument("--no-thermal", action="store_true", help="ignore temperatures")
    parser.add_argument("--status-dir", type=run_dir, metavar="DIR",
                        help="where status.json and heartbeat are kept: each second if it is in "
                             "memory, as /run is (default: the run directory, each 10 s)")


def run_dir_from(args: argparse.Namespace) -> RunDir:
    """The run directory, with the place of its status. Raises OSError if that cannot be made."""
    if not args.status_dir:
        return args.run_dir
    make_directory(args.status_dir.path)
    return replace(args.run_dir, status_dir=args.status_dir.path)


def add_search(parser: argparse._ActionsContainer, trial_s: float) -> None:
    parser.add_argument("--trial-seconds", type=float, default=trial_s,
                        help="training time of each size that is tried")
    parser.add_argument("--tokens-per-s", type=float, default=0.0,
                        help="lowest speed that is allowed")


def add_growth(parser: argparse.ArgumentParser) -> None:
    growth = parser.add_argument_group("growth")
    growth.add_argument("--grow", action="store_true",
                        help="find the largest brain that this board can train in the given "
                             "minutes (default: 60), then train a small one that grows up to it")
    add_search(growth, 20.0)
    growth.add_argument("--tokens-per-param", type=float, default=60.0,
                        help="that a larger size must have the time for (an hour's seed: 90)")


def add_prompt(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--prompt", required=True, metavar="TEXT", help="what it is to answer")
    add_sampling(parser)


def add_sampling(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--max-bytes", type=int, default=128, help="of an answer")
    parser.add_argument("--temperature", type=float, default=0.0,
                        help="of the sampling; 0: the likeliest byte each time")
    parser.add_argument("--seed", type=int, default=0, help="of the samples")
    add_min_confidence(parser)


def add_min_confidence(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--min-confidence", type=float, default=0.0, metavar="X",
                        help="an answer is not given if its confidence, which is its probability "
                             "from 0 to 1 for the brain, is below this")


def check(args: argparse.Namespace) -> None:
    """Raises ConfigError if a flag's value is out of its range, or a prompt is not text;
    NotEnoughMemory if numpy could not even be imported: its BLAS ends the process then."""
    limit_mb = address_space_mb()
    if limit_mb < MIN_ADDRESS_SPACE_MB:
        raise NotEnoughMemory(f"the address space is limited to {limit_mb:.0f} MB: raise it to "
                              f"{MIN_ADDRESS_SPACE_MB} MB or more (ulimit -v)")
    for name, (low, high) in RANGES.items():
        value = getattr(args, name, None)
        if value is not None and not low <= value <= high:
            raise ConfigError(f"--{name.replace('_', '-')} is {value}: use {low:g} to {high:g}")
    tables = getattr(args, "tables", ())
    for text in args.overrides if tables else []:
        if text.partition(".")[0] not in tables:
            raise ConfigError(f"--set {text}: this command takes keys of "
                              f"{' and '.join(f'[{table}]' for table in tables)} alone")
    prompt = getattr(args, "prompt", "-")
    if not prompt:
        raise ConfigError("--prompt is empty: give at least one character")
    if any("\ud800" <= character <= "\udfff" for character in prompt):
        raise ConfigError("--prompt is not UTF-8: give text")


def profile_from(args: argparse.Namespace, must_resume: bool = False) -> "Profile":
    """The named profile; without a name, that of the run directory's brain or the default.

    User tasks and a teacher that only the brain names are left out. Raises ConfigError; if
    `must_resume`, also for them, because they are part of what is resumed.
    """
    from seed.profile_file import applied, load_profile, overridden
    overrides, name = overrides_from(args), args.profile
    run_dir = getattr(args, "run_dir", None)
    newest = run_dir.load_newest(log) if name is None and run_dir else None
    if newest:
        from seed.curriculum.consent import check_named, leave_out_unnamed
        stored = newest.meta["profile"]
        body = stored.get("body", {})
        new = [] if body.get("rounds") or body.get("data") else getattr(args, "bodies", [])
        defaults = [f"body.curriculum_steps={CURRICULUM_STEPS * len(new)}"] if new else []
        profile = overridden(stored, [*defaults, *overrides_from(args, body.get("rounds"))],
                             args.tasks)
        named = applied({}, overrides, args.tasks)
        return (check_named(profile, named) if must_resume
                else leave_out_unnamed(profile, named, log))
    return load_profile(default_profile(args) if name is None else name, overrides, args.tasks)


def life_profile(args: argparse.Namespace) -> "Profile":
    """Whose [live] and [governor] count: the named one, or that of the run directory's brain,
    without a report that only the brain names. Raises ConfigError."""
    from seed.profile_file import load_profile
    from seed.training.adapt import governed
    overrides = [*overrides_from(args), *(
        f"live.{key}={value}" for key, value in (
            ("learn_every_ticks", args.learn_every), ("learn_minutes", args.learn_minutes))
        if value is not None)]
    return (load_profile(args.profile, overrides) if args.profile else
            governed(args.run_dir.load_brain(log), overrides, log))


def named_tasks(args: argparse.Namespace) -> list[str]:
    """The names in --task, without weights. Raises ConfigError."""
    from seed.profile_file import applied
    return list(applied({}, [], args.tasks).get("curriculum", {}).get("tasks", {}))


def overrides_from(args: argparse.Namespace,
                   rounds: dict[str, int] | None = None) -> list[str]:
    """What --set and flags change in the profile, as a.b=value. `rounds`: of the bodies of a brain
    that is trained on. Raises ConfigError if they contradict each other."""
    flags = vars(args)
    overrides = list(args.overrides)
    overrides += [f"train.{key}={flags[key]}" for key in ("seed", "minutes", "steps")
                  if flags.get(key) is not None]
    if flags.get("minutes") is not None and flags.get("steps") is None:
        overrides.append("train.steps=0")
    if flags.get("memory") is not None:
        overrides.append(f"governor.memory_mb={1024 * args.memory}")
    if flags.get("bodies"):
        if any(override.strip().startswith("body.rounds") for override in args.overrides):
            raise ConfigError("--body and --set body.rounds both say which bodies play: give one")
        table = ", ".join(f"{json.dumps(name)} = {n}" for name, n in with_named_bodies(
            rounds or {}, flags["bodies"]).items())
        overrides.append(f"body.rounds={{{table}}}")
    if flags.get("data_dirs"):
        table = ", ".join(f"{json.dumps(absolute_directory(name))} = 1"
                          for name in flags["data_dirs"])
        overrides.append(f"body.data={{{table}}}")
    if flags.get("no_thermal"):
        overrides.append("governor.thermal=false")
    return overrides


def limits_from(args: argparse.Namespace) -> "Limits":
    from seed.evaluation.acceptance import Limits
    return Limits(args.min_gain, args.max_loss)


def search_from(args: argparse.Namespace) -> "SearchOptions":
    """Raises ConfigError if a flag is out of its range."""
    from seed.resize.size_search import SearchOptions, fixed_sizes
    return SearchOptions(args.trial_seconds, args.tokens_per_s, fixed_sizes(args.overrides))


@functools.cache
def screen() -> "Screen":
    """Of this process, on standard error. Not before signals are watched: it imports numpy."""
    from seed.terminal.screen import Screen
    return Screen(time.monotonic)


@contextlib.contextmanager
def working(words: str) -> Iterator[None]:
    """Tells for how long it takes, and how many kernels were compiled."""
    from seed.wavecore.compiler import before_compiling
    n_compiled = 0

    def count() -> None:
        nonlocal n_compiled
        n_compiled += 1
    with before_compiling(count), screen().working(
            lambda: words + (f", {n_compiled} kernels compiled" if n_compiled else "")):
        yield


def log(line: str) -> None:
    """A line for the person, not part of the output."""
    if screen.cache_info().currsize:   # what it draws is taken away first
        return screen().log(one_line(line))
    with contextlib.suppress(OSError):   # stderr may be a file on a full disk
        print(fitted(one_line(line), sys.stderr), file=sys.stderr, flush=True)
