"""scale: how large a brain may be on this board."""
import argparse
import json

from seed.commands.start import prepare, profile_of, say
from seed.errors import INTERRUPTED


def search_options(args: argparse.Namespace):
    from seed.resize.size_search import SearchOptions, check_option, fixed_sizes
    if args.memory is not None:
        check_option("--memory", args.memory, 1e-3, 1e6)
    return SearchOptions(args.trial_seconds, args.tokens_per_s, fixed_sizes(args.overrides))


def run_scale(args: argparse.Namespace) -> int:
    from seed.resize.size_search import check_option, find_size, open_search
    from seed.training.stop_signals import StopSignals
    check_option("--tokens", args.tokens, 1, 1e18)
    options = search_options(args)
    prepare(args.threads)
    profile = profile_of(args)
    if args.dry_run:
        return _predict(args, open_search(profile, args.run_dir, args.threads, options))
    signals = StopSignals(code=INTERRUPTED).watch()
    return _conclude(args, find_size(profile, args.run_dir, args.threads, options, say,
                                     signals.stop.is_set))


def _predict(args: argparse.Namespace, search) -> int:
    """What each size would cost; time is known as soon as one was tried."""
    from seed.resize.size_search import number
    rows = [search.row(i) for i in range(len(search.ladder))]
    if args.json:
        print(json.dumps({"ladder": rows}))
        return 0
    print(f"{'d_model x layers, batch':<24}{'parameters':>12}{'MB':>8}{'tokens/s':>10}"
          f"{'minutes':>9}{'save MB':>9}{'GB a day':>10}")
    for row in rows:
        rate = row["predicted_tokens_s"]
        print(f"{row['size']:<24}{row['parameters']:>12,}{row['predicted_mb']:>8,.0f}"
              f"{number(rate):>10}{number(args.tokens / rate / 60 if rate else None):>9}"
              f"{row['checkpoint_mb']:>9.1f}{row['written_gb_per_day']:>10.1f}")
    print(f"minutes: for {args.tokens:,.0f} tokens" + (
        "" if search.trials else "; unknown before the first trial: run without --dry-run"))
    return 0


def _conclude(args: argparse.Namespace, search) -> int:
    chosen = search.chosen
    if args.json:
        print(json.dumps({"chosen": str(search.ladder[chosen]), "ladder": search.rows()}))
        return 0
    above = search.verdicts().get(chosen + 1)
    print("\n".join(search.line(i) for i in sorted(search.trials)))
    print(f"the largest stable brain is {search.ladder[chosen]}" + (
        f"; {search.ladder[chosen + 1]} is not: {above}" if above else
        ": the ladder ends here") + f"\ntrain it: python -m seed train --profile "
          f"{args.run_dir.limit_profile} --threads {args.threads} --minutes 60 --run-dir "
          f"{args.run_dir.path / 'brain'}")
    return 0
