"""Let a brain act in its bodies, and report the returns of unseen episodes."""
import argparse
import contextlib
import sys
from functools import partial
from typing import Any

from seed.commands import options, outcome
from seed.errors import ConfigError
from seed.terminal_text import escaped


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_brain(parser)
    options.add_bodies(parser, "of those that the brain knows; default: all that can be "
                       "opened and are no files")
    parser.add_argument("--episodes", type=int, default=100,
                        help="of each body; 16 are played together, fewer one by one")
    parser.add_argument("--sample", action="store_true",
                        help="draw actions by their probabilities, not the likeliest")
    parser.add_argument("--record", type=options.path, metavar="DIR",
                        help="write the episodes to a directory, for seed train --data")
    parser.add_argument("--render", action="store_true",
                        help="show the bodies: in a window, or a line of text a tick")
    parser.add_argument("--seed", type=int, default=1, help="of the episodes")


def run(args: argparse.Namespace) -> int:
    from seed.body.results import returns_table
    from seed.curriculum.consent import named_bodies
    from seed.evaluation import TrainedBrain
    brain = TrainedBrain.load(args.run_dir, args.threads, options.log)
    if not brain.bodies:
        raise ConfigError(f"{args.run_dir} has a brain without a body: train it with --body")
    names = args.bodies or _that_open(brain, list(named_bodies(brain.bodies, (), options.log)))
    if not names:
        raise ConfigError(f"{args.run_dir} has a brain whose bodies are files: name one, as in "
                          f"--body {next(iter(brain.bodies))}")
    if args.record and len(names) > 1:
        raise ConfigError("--record: a directory has episodes of one body: name it with --body")
    show_fn = partial(_show, args.json) if args.render else None
    with contextlib.nullcontext() if args.render else options.working("playing"):
        returns = [brain.returns(name, args.episodes, args.seed, not args.sample,
                                 record=args.record, show_fn=show_fn) for name in names]
    return outcome.show(args, [row.to_dict() for row in returns], returns_table(returns))


def _that_open(brain: Any, names: list[str]) -> list[str]:
    """Those of a brain's bodies that are here: not what was only recorded. All if there is none,
    as that has a reason which is to be told."""
    from seed.body.open_body import opener_of_data
    names_here = [name for name in names if opener_of_data(name, brain.bodies[name].codec,
                                                           brain.profile.body)]
    if names_here and len(names_here) < len(names):
        options.log(f"left out: {', '.join(name for name in names if name not in names_here)}, "
                    f"which cannot be opened here")
    return names_here or names


def _show(is_json: bool, text: str) -> None:
    """Prints what a body does in a tick."""
    if is_json or not sys.stdout.isatty():
        raise ConfigError("--render: the body is shown as text, which needs a terminal and no "
                          "--json: leave out --render")
    print(escaped(text))
