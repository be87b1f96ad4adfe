"""Make a run directory of a packed brain."""
import argparse

from seed.commands import options, outcome


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=options.path, help="written by seed pack")
    parser.add_argument("--run-dir", type=options.run_dir, required=True, metavar="NEW",
                        help="a directory that is not there yet")


def run(args: argparse.Namespace) -> int:
    from seed.errors import printable
    from seed.sharing.unpack import unpack
    manifest = unpack(args.file, args.run_dir)
    return outcome.show(args, {"run": str(args.run_dir), **manifest},
                        f"{args.run_dir}: profile {printable(manifest['profile'])}, step "
                        f"{manifest['step']}, {', '.join(manifest['files'])}")
