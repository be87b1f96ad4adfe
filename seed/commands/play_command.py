"""Let a brain act in its bodies, and report the returns of unseen episodes."""
import argparse
from pathlib import Path

from seed.commands import options, outcome
from seed.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_brain(parser)
    options.add_bodies(parser, "of those that the brain knows; default: all that are no files")
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--sample", action="store_true",
                        help="draw actions by their probabilities, not the likeliest")
    parser.add_argument("--record", type=Path, metavar="DIR",
                        help="write the episodes to a directory, for seed train --data")
    parser.add_argument("--seed", type=int, default=1, help="of the episodes")


def run(args: argparse.Namespace) -> int:
    from seed.body.results import returns_table
    from seed.curriculum.consent import named_bodies
    from seed.evaluation import TrainedBrain
    brain = TrainedBrain.load(args.run_dir, args.threads, options.log)
    if not brain.bodies:
        raise ConfigError(f"{args.run_dir} has a brain without a body: train it with --body")
    names = args.bodies or list(named_bodies(brain.bodies, (), options.log))
    if not names:
        raise ConfigError(f"{args.run_dir} has a brain whose bodies are files: name one, as in "
                          f"--body {next(iter(brain.bodies))}")
    if args.record and len(names) > 1:
        raise ConfigError("--record: a directory has episodes of one body: name it with --body")
    returns = [brain.returns(name, args.episodes, args.seed, not args.sample, record=args.record)
               for name in names]
    return outcome.show(args, [row.to_dict() for row in returns], returns_table(returns))
