"""Let a brain act in its bodies, and report the returns of unseen episodes."""
import argparse

from seed.commands import options, outcome
from seed.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_brain(parser)
    parser.add_argument("--body", action="append", default=[], metavar="NAME", dest="bodies",
                        help="of those that the brain knows; default: all")
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--sample", action="store_true",
                        help="draw actions by their probabilities, not the likeliest")
    parser.add_argument("--seed", type=int, default=1, help="of the episodes")


def run(args: argparse.Namespace) -> int:
    from seed.body.closed_loop import returns_table
    from seed.evaluation import TrainedBrain
    brain = TrainedBrain.load(args.run_dir, args.threads, options.log)
    if not brain.bodies:
        raise ConfigError(f"{args.run_dir} has a brain without a body: train it with --body")
    returns = [brain.returns(name, args.episodes, args.seed, not args.sample)
               for name in args.bodies or brain.bodies]
    return outcome.show(args, [row.to_dict() for row in returns], returns_table(returns))
