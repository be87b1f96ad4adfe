"""Show which brains have acted on the robot, and why."""
import argparse

from seed.commands import options, outcome
from seed.errors import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_run(parser)


def run(args: argparse.Namespace) -> int:
    from seed.live.brains import live_dir_of, read_lineage
    log = read_lineage(live_dir_of(args.run_dir))
    rows, lines = log.rows, [log.damage] if log.damage else []
    for row in rows:
        figures = ", ".join(f"{f['name']} {f['before']:.4g} -> {f['after']:.4g}"
                            for f in row.figures)
        lines.append(printable("  ".join(filter(None, [
            row.time, row.decision, row.brain, figures, row.reason]))))
    return outcome.show(args, [row._asdict() for row in rows], "\n".join(lines))
