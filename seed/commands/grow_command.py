"""Make a trained brain larger, in place: its outputs stay the same."""
import argparse
import json

from seed.commands import options

AUTO = "auto"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--to", required=True, metavar="PROFILE|auto",
                        help="whose shape it gets; auto: the next size up to the limit that seed "
                             "scale found")
    options.add_brain(parser)


def run(args: argparse.Namespace) -> int:
    from seed.config import load_profile
    from seed.resize import grow_brain
    counts = grow_brain(args.run_dir, None if args.to == AUTO else load_profile(args.to),
                        args.threads, options.log)
    print(json.dumps(counts._asdict()) if args.json else
          f"grew from {counts.before:,} to {counts.after:,} parameters; train it: python -m seed "
          f"train --run-dir {args.run_dir} --threads {args.threads}, --minutes or --steps")
    return 0
