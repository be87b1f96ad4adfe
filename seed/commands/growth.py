"""grow and train --grow: a brain becomes larger."""
import argparse
import json
import os
import sys
from typing import Any

from seed.commands.learn import report
from seed.commands.size import search_options
from seed.commands.start import DEFAULT, overrides_of, prepare, profile_of, say
from seed.config import Profile, load_profile, overridden

AUTO = "auto"


def run_grow(args: argparse.Namespace) -> int:
    prepare(args.threads)
    from seed.resize import grow_brain
    counts = grow_brain(args.run_dir, None if args.to == AUTO else load_profile(args.to),
                        args.threads, say)
    print(json.dumps(counts._asdict()) if args.json else
          f"grew from {counts.before:,} to {counts.after:,} parameters; train it: python -m seed "
          f"train --run-dir {args.run_dir} --threads {args.threads}, --minutes or --steps")
    return 0


def run_train_growing(args: argparse.Namespace) -> int:
    from seed.resize.size_search import check_option
    from seed.training.stop_signals import StopSignals, release
    args.minutes = 60.0 if args.minutes is None else args.minutes
    check_option("--minutes", args.minutes, 0.1, 1e6)
    if args.steps is not None:
        check_option("--steps", args.steps, 1, 1e18)
    signals = StopSignals().watch()
    args.profile = args.profile or DEFAULT
    options = search_options(args)
    prepare(args.threads, args.run_dir)
    from seed.resize import train_growing

    def reopen(profile: dict[str, Any]) -> Profile:
        return overridden(profile, overrides_of(args), args.tasks)

    def restart(*arguments: str) -> None:
        """Another command of seed in the place of this one, unless a signal has stopped it."""
        release()
        if not signals.stop.is_set():
            sys.stdout.flush()
            os.execv(sys.executable, [sys.executable, "-m", "seed", *arguments])
    result = train_growing(profile_of(args), args.run_dir, args.threads, options,
                           args.tokens_per_param, say, signals, reopen,
                           lambda: restart(*sys.argv[1:]))
    if result.finished:
        restart("eval", f"--run-dir={args.run_dir}", f"--threads={args.threads}",
                f"--html={args.run_dir.report}", *(["--json"] if args.json else []))
    return report(args, result)
