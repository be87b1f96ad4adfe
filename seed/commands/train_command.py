"""Train a brain, or resume training; with --grow, from a small brain up to the board's limit."""
import argparse
import os
import sys
from typing import Any

from seed.commands import options, outcome
from seed.interpreter import seed_command

GROW_MINUTES = 60.0   # by default


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_profile(parser, learns_bodies=True)
    options.add_budget(parser, None, "the whole run")
    options.add_board(parser)
    options.add_bodies(parser, "learn to act in cartpole, pendulum, rover, gym:ID or "
                               "file.py:Class; may be repeated")
    options.add_data(parser)
    options.add_brain(parser, "new")
    parser.add_argument("--plain", action="store_true", help="one line of progress, no panel")
    parser.add_argument("--table", action="store_true", help="end with the three scores of each "
                                                             "task as a table")
    options.add_growth(parser)


def run(args: argparse.Namespace) -> int:
    from seed.training.stop_signals import StopSignals
    signals = StopSignals().watch()   # before tinygrad is imported, which takes seconds
    options.screen().is_plain = args.plain
    if args.grow:
        return _run_growing(args, signals)
    with options.working("starting"):
        from seed.training.pipeline import train
        profile = options.profile_from(args, must_resume=True)
        result = train(profile, options.run_dir_from(args), args.threads, options.log_of_run(args),
                       signals, screen=options.screen())
    return outcome.report(args, result)


def _run_growing(args: argparse.Namespace, signals: Any) -> int:
    from seed.profile_file import load_profile, overridden
    from seed.curriculum.consent import check_named
    from seed.resize import train_growing
    overrides = options.overrides_from(args)
    if args.minutes is None:
        overrides += [f"train.minutes={GROW_MINUTES}", *([] if args.steps else ["train.steps=0"])]

    def restart(*arguments: str) -> None:
        """Replaces this process by another command of seed, unless a signal has stopped it."""
        signals.release()
        if not signals.stop.is_set():
            options.screen().clear()
            os.execv(sys.executable, seed_command(*arguments))
    named = load_profile(options.default_profile(args), overrides, args.tasks)
    with options.working("finding the limit of this board"):
        result = train_growing(
            named, options.run_dir_from(args), args.threads, options.search_from(args),
            args.tokens_per_param, options.log_of_run(args), signals,
            reopen_fn=lambda stored: check_named(overridden(stored, overrides, args.tasks),
                                                 named.to_dict()),
            restart_fn=lambda: restart(*sys.argv[1:], f"--run-dir={args.run_dir}"),
            screen=options.screen())
    return outcome.report(args, result)
