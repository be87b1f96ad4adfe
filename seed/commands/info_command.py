"""Describe a profile, a run, a checkpoint or an exported file."""
import argparse
from pathlib import Path

from seed.commands import options, outcome


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", nargs="?", type=options.path, metavar="FILE|RUN",
                        help="an exported .tflite file, a checkpoint or a run directory")
    options.add_profile(parser)
    options.add_brain(parser, "optional")


def run(args: argparse.Namespace) -> int:
    from seed.errors import ConfigError
    from seed.sharing import brain_description as description
    path: Path | None = args.file
    if not path and args.profile is None and args.run_dir:
        path = args.run_dir.path
    elif path and args.profile is not None:
        raise ConfigError(f"{path} and --profile {args.profile} are two things: describe one")
    if path:
        facts = description.of_path(path, options.log)
    else:   # a profile that is named is described whatever brain the run directory has
        facts = description.of_profile(options.profile_from(args))
    return outcome.show(args, facts, description.text(facts))
