"""Delete brains with all that their runs have written; asks first."""
import argparse
import io
import sys

from seed.commands import options, outcome
from seed.errors import ConfigError
from seed.terminal_text import one_line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", type=options.run_dir, metavar="RUN",
                        help="run directories")
    parser.add_argument("--yes", action="store_true", help="do not ask")


def run(args: argparse.Namespace) -> int:
    from seed.evaluation.run_summary import summary
    from seed.storage.removal import check_removable, remove
    runs = {run_dir.path.resolve(): run_dir for run_dir in args.runs}.values()   # each once
    for run_dir in args.runs:   # nothing is deleted if one of them cannot be
        check_removable(run_dir)
    if not args.yes and not sys.stdin.isatty():
        raise ConfigError("seed rm asks before it deletes, which needs a terminal: give --yes")
    deleted = []
    for run_dir in runs:
        row = summary(run_dir)
        words = f"{run_dir}: {row.profile}, {row.step:,} steps, {row.size_mb:.0f} MB"
        if args.yes or _agrees(f"delete {words}? [y/N] "):
            remove(run_dir)
            deleted.append(str(run_dir))
            options.log(f"deleted {words}")
        else:
            options.log(f"{run_dir} stays")
    return outcome.show(args, {"deleted": deleted}, "") if args.json else 0


def _agrees(question: str) -> bool:
    """Ctrl-D does not. It is asked on standard error: the output may be a pipe."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")
    print(one_line(question), end="", file=sys.stderr, flush=True)
    try:
        return input().strip().lower() in ("y", "yes")
    except EOFError:
        return False
