"""scale and grow: how large a brain is, and how large it may be."""
import argparse
import dataclasses
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from seed.commands.start import newest, prepare, say
from seed.config import ConfigError, Profile, from_dict, load_profile, to_toml

if TYPE_CHECKING:
    from seed.training.probe import Rung
    from seed.training.scaling import Search

LIMIT = "limit.toml"
SIZES = {"model.d_model": "d_model", "model.n_layers": "n_layers",
         "train.batch_size": "batch_size", "train.seq_len": "seq_len"}


def run_scale(args: argparse.Namespace) -> int:
    if not 1 <= args.probe_seconds <= 86400:
        raise ConfigError(f"--probe-seconds is {args.probe_seconds}: use 1 to 86400")
    profile = load_profile(args.profile or "toy", [
        *args.overrides, *([f"governor.memory_mb={1024 * args.memory}"] if args.memory else [])],
        args.tasks)
    prepare(args.threads)
    from seed import system_health
    from seed.governor import ceiling_mb
    from seed.training import probe
    from seed.training.lock import locked
    from seed.training.scaling import LADDER, Limits, Search
    args.run_dir.mkdir(parents=True, exist_ok=True)
    ceiling = ceiling_mb(profile.governor, system_health.read(args.run_dir))
    limits = Limits(ceiling, args.tokens_per_s, profile.governor.slow_c)
    with locked(args.run_dir):
        search = Search(profile, args.threads, limits, args.run_dir,
                        _ladder(profile, args.overrides, LADDER))
        if args.dry_run:
            return _predict(args, search)

        def attempt(rung: "Rung") -> Any:
            say(f"trying {rung}")
            return probe.run(profile, rung, args.threads, args.probe_seconds, ceiling,
                             args.run_dir / "probing")
        for i, _, kept in search.climb(attempt):
            say(_line(search, i))
            if not kept:
                say(f"WARNING: {args.run_dir} refuses the probe: it is not remembered")
        chosen = search.chosen
        if chosen is not None:
            found = dataclasses.replace(search.profiles[chosen], name="limit")
            (args.run_dir / LIMIT).write_text(to_toml(found), encoding="utf-8")
    return _conclude(args, search, chosen)


def _ladder(profile: Profile, overrides: Sequence[str], ladder: Sequence["Rung"]) -> list["Rung"]:
    """The ladder, but with the sizes that were set."""
    keys = {text.partition("=")[0] for text in overrides}
    if "model.d_ff" in keys:
        raise ConfigError("model.d_ff cannot be set here: on the ladder it is twice the width")
    now = {"d_model": profile.model.d_model, "n_layers": profile.model.n_layers,
           "batch_size": profile.train.batch_size, "seq_len": profile.train.seq_len}
    fixed = {SIZES[key]: now[SIZES[key]] for key in keys & SIZES.keys()}
    return list(dict.fromkeys(rung._replace(**fixed) for rung in ladder))


def _row(search: "Search", i: int) -> dict[str, Any]:
    """What is predicted for a rung, from the others, and what was measured."""
    from seed.training.cost import checkpoint_bytes, written_gb_a_day
    from seed.wavecore.layout import count_params
    rung, profile, probe = search.ladder[i], search.profiles[i], search.probes.get(i)
    cost = search.cost(without=i)
    step_s = cost.step_s(profile)
    return {"rung": str(rung), "parameters": count_params(profile.model),
            "predicted_mb": cost.memory_mb(profile), "peak_mb": probe.peak_mb if probe else None,
            "predicted_tokens_s": rung.batch_size * rung.seq_len / step_s if step_s else None,
            "tokens_s": probe.tokens_s if probe else None,
            "settles_c": probe.settles_c if probe else None,
            "checkpoint_mb": checkpoint_bytes(profile) / 1e6,
            "written_gb_a_day": written_gb_a_day(profile),
            "fault": search.verdicts().get(i)}


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _line(search: "Search", i: int) -> str:
    row = _row(search, i)
    return (f"{row['rung']:<16}{row['parameters']:>12,} parameters  "
            f"{_number(row['peak_mb']):>6} MB (predicted {_number(row['predicted_mb'])})  "
            f"{_number(row['tokens_s']):>7} tokens/s (predicted "
            f"{_number(row['predicted_tokens_s'])})  {row['fault'] or 'stable'}")


def _predict(args: argparse.Namespace, search: "Search") -> int:
    """What each rung would cost; time is known as soon as one was probed."""
    rows = [_row(search, i) for i in range(len(search.ladder))]
    if args.json:
        print(json.dumps({"ladder": rows}))
        return 0
    print(f"{'d_model x layers, batch':<24}{'parameters':>12}{'MB':>8}{'tokens/s':>10}"
          f"{'minutes':>9}{'save MB':>9}{'GB a day':>10}")
    for row in rows:
        rate = row["predicted_tokens_s"]
        print(f"{row['rung']:<24}{row['parameters']:>12,}{row['predicted_mb']:>8,.0f}"
              f"{_number(rate):>10}{_number(args.tokens / rate / 60 if rate else None):>9}"
              f"{row['checkpoint_mb']:>9.1f}{row['written_gb_a_day']:>10.1f}")
    print(f"minutes: for {args.tokens:,.0f} tokens" + (
        "" if search.probes else "; time is known as soon as one rung was probed: leave out "
                                 "--dry-run"))
    return 0


def _conclude(args: argparse.Namespace, search: "Search", chosen: int | None) -> int:
    rows = [_row(search, i) for i in sorted(search.probes)]
    if args.json:
        print(json.dumps({"chosen": str(search.ladder[chosen]) if chosen is not None else None,
                          "ladder": rows}))
    elif chosen is not None:
        above = search.verdicts().get(chosen + 1)
        print("\n".join(_line(search, i) for i in sorted(search.probes)))
        print(f"the largest stable brain is {search.ladder[chosen]}" + (
            f"; {search.ladder[chosen + 1]} is not: {above}" if above else
            ": the ladder ends here") + f"\ntrain it: python -m seed train --profile "
              f"{args.run_dir / LIMIT} --minutes 60 --run-dir {args.run_dir / 'brain'}")
    if chosen is None:
        raise ConfigError(f"no rung is stable: {search.ladder[0]}: {search.verdicts()[0]}; allow "
                          f"more with --memory or a lower --tokens-per-s")
    return 0


def run_grow(args: argparse.Namespace) -> int:
    """In place; the brain as it was is the previous generation until the next save."""
    prepare(args.threads)
    from seed.training import checkpoint
    from seed.training.grow import grow_brain
    from seed.training.lock import locked
    from seed.wavecore.layout import count_params
    large = load_profile(args.to)
    with locked(args.run_dir):
        brain = newest(args.run_dir)
        small = from_dict(brain.meta["profile"])
        grown = grow_brain(brain, small, large)
        checkpoint.save(args.run_dir, grown.tensors, grown.meta)
    counts = [count_params(profile.model) for profile in (small, large)]
    print(json.dumps({"before": counts[0], "after": counts[1]}) if args.json else
          f"{counts[0]:,} parameters have become {counts[1]:,}; go on with: python -m seed train "
          f"--run-dir {args.run_dir}, --minutes or --steps")
    return 0
