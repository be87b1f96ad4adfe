"""List the brains of a folder, each with the mean of levels of its last evaluation."""
import argparse
import time
from pathlib import Path
from typing import Any

from seed.commands import options, outcome
from seed.errors import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", nargs="?", type=options.path, metavar="FOLDER",
                        help="default: runs")


def run(args: argparse.Namespace) -> int:
    from seed.evaluation.run_summary import summary
    from seed.storage import runs
    folder = args.folder or runs.RUNS
    rows = [summary(run_dir) for run_dir in runs.runs_in(folder)]
    return outcome.show(args, [row._asdict() for row in rows], _table(rows, folder))


def _table(rows: list[Any], folder: Path) -> str:
    """A line for each, whatever is in the names of its directory and its profile."""
    if not rows:
        return f"{printable(str(folder))} has no brains"
    rows = [row._replace(run=printable(row.run), profile=printable(row.profile)) for row in rows]
    width = max(len(row.run) for row in rows)
    lines = [f"{'run':<{width}}  {'profile':<10}{'steps':>10}  {'mean %':>7}  {'MB':>6}  "
             f"{'saved':<16}  state"]
    for row in rows:
        right = f"{100 * row.right:.0f}" if row.right is not None else "-"
        lines.append(f"{row.run:<{width}}  {row.profile:<10}{row.step:>10,}  {right:>7}  "
                     f"{row.size_mb:>6.0f}  {time.strftime('%Y-%m-%d %H:%M', _local(row)):<16}  "
                     f"{row.state}")
    return "\n".join(lines)


def _local(row: Any) -> time.struct_time:
    return time.localtime(row.saved_time)
