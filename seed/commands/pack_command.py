"""Pack a brain with its card, weights and lineage into one file for others."""
import argparse

from seed.commands import options, outcome


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_run(parser)
    parser.add_argument("--out", type=options.path, required=True, metavar="FILE",
                        help="such as brain.seedpack")
    parser.add_argument("--license", default="unknown",
                        help="of the brain, for its card: mit, cc-by-4.0, ... (default: unknown)")


def run(args: argparse.Namespace) -> int:
    from seed.sharing.pack import pack
    packed = pack(args.run_dir, args.out, options.log, args.license)
    return outcome.show(args, {"file": str(packed.path), "bytes": packed.size,
                               "files": packed.files},
                        f"{packed.path}: {packed.size:,} bytes, {', '.join(packed.files)}")
