"""Make a trained brain larger, in place: its outputs stay the same."""
import argparse

from seed.commands import options, outcome
from seed.interpreter import shown_command
from seed.terminal_text import unbroken


def add_arguments(parser: argparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--undo", action="store_true", help="restore the brain of before it grew")
    what.add_argument("--to", metavar="PROFILE|auto",
                      help="whose shape it gets; auto: the next size up to the limit that seed "
                           "scale found")
    options.add_brain(parser, "none")


def run(args: argparse.Namespace) -> int:
    from seed.profile_file import load_profile
    from seed.resize import grow_brain, undo_growth
    if args.undo:
        step = undo_growth(args.run_dir, options.log)
        return outcome.show(args, {"step": step}, "the brain is as it was before it grew")
    profile = None if args.to == "auto" else load_profile(args.to)
    counts = grow_brain(args.run_dir, profile, args.threads, options.log)
    return outcome.show(
        args, counts._asdict(),
        f"grew from {counts.before:,} to {counts.after:,} parameters; train it: "
        f"{unbroken(shown_command('train', f'--run-dir={args.run_dir}', '--minutes=30'))}")
