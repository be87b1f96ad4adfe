"""Time a training step, alone or beside a peer."""
import argparse
import importlib.util

from seed.commands import options, outcome
from seed.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_profile(parser, default="seed")
    parser.add_argument("--peer", choices=["torch"], help="needs pip install 'seed-brain[peer]'")
    parser.add_argument("--turns", type=int, default=10, help="measurements of each contender")
    options.add_threads(parser)


def run(args: argparse.Namespace) -> int:
    options.profile_from(args)   # refuses a bad profile before any process starts
    if args.peer and importlib.util.find_spec("torch") is None:
        raise ConfigError("--peer torch needs PyTorch: pip install 'seed-brain[peer]'")
    from seed.bench.compare import bench, table
    from seed.wavecore.compiler import find_compiler
    find_compiler()   # refuses a machine without one before any process starts
    with options.working("measuring"):
        report = bench(args.profile, args.overrides, args.threads, bool(args.peer), args.turns)
    return outcome.show(args, report, table(report))
