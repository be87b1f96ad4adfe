"""scale: how large a brain may be on this board."""
import argparse
import dataclasses
import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from seed.storage import atomic_file
from seed.commands.start import prepare, profile_of, say
from seed.config import Profile, to_toml
from seed.errors import ConfigError
from seed.errors import INTERRUPTED

if TYPE_CHECKING:
    from seed.resize.trial import Size
    from seed.resize.size_search import Search
    from seed.training.stop_signals import StopSignals

SIZES = {"model.d_model": "d_model", "model.n_layers": "n_layers",
         "train.batch_size": "batch_size", "train.seq_len": "seq_len"}


def run_scale(args: argparse.Namespace) -> int:
    if args.dry_run:
        return _predict(args, search_of(args))
    from seed.training.stop_signals import StopSignals
    requests = StopSignals(code=INTERRUPTED).watch()
    with args.run_dir.locked():
        search = search_of(args)
        climb(args, search, requests)
    return _conclude(args, search)


def search_of(args: argparse.Namespace, parameter_s: float = 0.0) -> "Search":
    """With what was found out before. Raises ConfigError."""
    for name, low, high in (("probe_seconds", 1, 86400), ("tokens_per_s", 0, 1e9),
                            ("tokens", 1, 1e18), ("bytes_per_parameter", 0, 1e9),
                            ("memory", 1e-3, 1e6)):
        value = getattr(args, name, None)
        if value is not None and not low <= value <= high:
            raise ConfigError(f"--{name.replace('_', '-')} is {value}: use {low:g} to {high:g}")
    profile = profile_of(args)
    prepare(args.threads)
    from seed import system_health
    from seed.governor import ceiling_mb
    from seed.resize.size_search import Limits, Search, ladder_of
    args.run_dir.path.mkdir(parents=True, exist_ok=True)
    limits = Limits(ceiling_mb(profile.governor, system_health.read(args.run_dir.path)),
                    args.tokens_per_s,
                    profile.governor.slow_c if profile.governor.thermal else float("inf"),
                    parameter_s)
    return Search(profile, args.threads, limits, args.run_dir, args.probe_seconds,
                  _ladder(profile, args.overrides, ladder_of(profile)))


def climb(args: argparse.Namespace, search: "Search", requests: "StopSignals",
          tried: Callable[[], None] = lambda: None) -> None:
    """Tries sizes until the limit is known, and writes its profile; calls `tried` after each.

    Raises ConfigError if none is stable, KeyboardInterrupt when it is asked to stop.
    """
    from seed import system_health
    from seed.resize import trial
    from seed.errors import NotEnoughMemory
    governor = search.profile.governor
    while (i := search.next_size_to_try()) is not None:
        args.run_dir.limit_profile.unlink(missing_ok=True)   # it was of other limits
        if governor.thermal:
            trial.cool_down(governor.resume_c, requests.stop.is_set)
        say(f"trying {search.ladder[i]}")
        try:
            found = search.begin(i, system_health.boot_id()) or trial.run(
                search.profile, search.ladder[i], args.threads, args.probe_seconds,
                search.limits.memory_mb, args.run_dir.trial, asked=requests.stop.is_set)
        except BaseException:   # no fall of the board
            search.attempts.clear()
            raise
        if not search.remember(found):
            say(f"WARNING: {args.run_dir} refuses the trial: it is not remembered")
        say(_line(search, i))
        tried()
    chosen = search.chosen
    atomic_file.write(args.run_dir.ladder, json.dumps(
        [_row(search, i) for i in sorted(search.trials)]).encode())
    if chosen is None:
        args.run_dir.limit_profile.unlink(missing_ok=True)
        fault = search.verdicts()[0]
        of_now = fault.startswith((trial.NEEDS, trial.STOPPED))
        raise (NotEnoughMemory if of_now else ConfigError)(
            f"no size is stable: {search.ladder[0]}: {fault}; allow more with --memory or a lower "
            f"--tokens-per-s")
    atomic_file.write(args.run_dir.limit_profile, to_toml(
        dataclasses.replace(search.profiles[chosen], name="limit")).encode())


def _ladder(profile: Profile, overrides: Sequence[str], ladder: Sequence["Size"]) -> list["Size"]:
    """The ladder, but with the sizes that were set. Raises ConfigError if it has no size."""
    keys = {text.partition("=")[0] for text in overrides}
    if "model.d_ff" in keys:
        raise ConfigError("model.d_ff cannot be set here: on the ladder it is twice the width")
    now = {"d_model": profile.model.d_model, "n_layers": profile.model.n_layers,
           "batch_size": profile.train.batch_size, "seq_len": profile.train.seq_len}
    fixed = {SIZES[key]: now[SIZES[key]] for key in keys & SIZES.keys()}
    found = list(dict.fromkeys(size._replace(**fixed) for size in ladder))
    if not found:
        raise ConfigError(f"model.head_dim is {profile.model.head_dim}: no width of the ladder is "
                          f"a multiple of it")
    return found


def _row(search: "Search", i: int) -> dict[str, Any]:
    """What is predicted for a size, from the others, and what was measured."""
    from seed.resize.cost_model import checkpoint_bytes, written_gb_a_day
    profile, size, trial = search.profiles[i], search.sizes[i], search.trials.get(i)
    cost = search.cost(without=i)
    step_s = cost.step_s(profile)
    return {"size": str(search.ladder[i]), "parameters": size.parameters,
            "predicted_mb": cost.memory_mb(profile), "peak_mb": trial.peak_mb if trial else None,
            "predicted_tokens_s": size.tokens / step_s if step_s else None,
            "tokens_s": size.tokens / trial.step_s if trial and trial.step_s else None,
            "settles_c": trial.settles_c if trial else None,
            "checkpoint_mb": checkpoint_bytes(profile) / 1e6,
            "written_gb_a_day": written_gb_a_day(profile),
            "fault": search.verdicts().get(i)}


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _predicted(value: float | None, measured: float | None) -> str:
    """With its error, in percent of what was measured."""
    error = f", {100 * (value / measured - 1):+.0f} %" if value and measured else ""
    return f"predicted {_number(value)}{error}"


def _line(search: "Search", i: int) -> str:
    row = _row(search, i)
    memory = _predicted(row["predicted_mb"], row["peak_mb"])
    speed = _predicted(row["predicted_tokens_s"], row["tokens_s"])
    return (f"{row['size']:<16}{row['parameters']:>12,} parameters  "
            f"{_number(row['peak_mb']):>6} MB ({memory})  {_number(row['tokens_s']):>7} tokens/s "
            f"({speed})  {row['fault'] or 'stable'}")


def _predict(args: argparse.Namespace, search: "Search") -> int:
    """What each size would cost; time is known as soon as one was probed."""
    rows = [_row(search, i) for i in range(len(search.ladder))]
    if args.json:
        print(json.dumps({"ladder": rows}))
        return 0
    print(f"{'d_model x layers, batch':<24}{'parameters':>12}{'MB':>8}{'tokens/s':>10}"
          f"{'minutes':>9}{'save MB':>9}{'GB a day':>10}")
    for row in rows:
        rate = row["predicted_tokens_s"]
        print(f"{row['size']:<24}{row['parameters']:>12,}{row['predicted_mb']:>8,.0f}"
              f"{_number(rate):>10}{_number(args.tokens / rate / 60 if rate else None):>9}"
              f"{row['checkpoint_mb']:>9.1f}{row['written_gb_a_day']:>10.1f}")
    print(f"minutes: for {args.tokens:,.0f} tokens" + (
        "" if search.trials else "; time is known as soon as one size was probed: leave out "
                                 "--dry-run"))
    return 0


def _conclude(args: argparse.Namespace, search: "Search") -> int:
    rows, chosen = [_row(search, i) for i in sorted(search.trials)], search.chosen
    assert chosen is not None
    if args.json:
        print(json.dumps({"chosen": str(search.ladder[chosen]), "ladder": rows}))
        return 0
    above = search.verdicts().get(chosen + 1)
    print("\n".join(_line(search, i) for i in sorted(search.trials)))
    print(f"the largest stable brain is {search.ladder[chosen]}" + (
        f"; {search.ladder[chosen + 1]} is not: {above}" if above else
        ": the ladder ends here") + f"\ntrain it: python -m seed train --profile "
          f"{args.run_dir.limit_profile} --threads {args.threads} --minutes 60 --run-dir "
          f"{args.run_dir.path / 'brain'}")
    return 0
