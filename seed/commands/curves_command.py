"""Plot how the loss, the accuracy or another quantity of one run or several has changed."""
import argparse
import os
import sys
import time

from seed.commands import options, outcome
from seed.terminal_text import escaped

MAX_POINTS = 1000   # of a curve in a picture
PROMPT_ROWS = 2     # of a terminal, below the plot


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="*", type=options.run_dir, metavar="RUN",
                        help="run directories (default: the newest in runs/)")
    parser.set_defaults(run_dir=None, default_run="newest")
    parser.add_argument("--what", type=options.named, default="loss", metavar="NAME",
                        help="loss, accuracy, return, tokens_per_s, temp_c, memory_mb, a task, a "
                             "body, or another curve of docs/metrics.md")
    parser.add_argument("--svg", type=options.path, metavar="FILE", help="write the plot")
    parser.add_argument("--csv", type=options.path, metavar="FILE",
                        help="write all curves for a spreadsheet")
    parser.add_argument("--tensorboard", type=options.path, metavar="DIR",
                        help="write all curves as event files, in a folder for each run")


def run(args: argparse.Namespace) -> int:
    from seed.evaluation import curve_files, run_curves
    from seed.storage import atomic_file
    from seed.storage.curves import title
    from seed.storage.output_file import check_output
    if args.svg:
        check_output("--svg", args.svg, "an SVG file", curve_files.is_svg_file)
    if args.csv:
        check_output("--csv", args.csv, "a table of curves", curve_files.is_csv_file)
    runs = run_curves.read_runs(args.runs or [args.run_dir])
    lines, heading = run_curves.lines(runs, args.what, MAX_POINTS), title(args.what)
    if args.tensorboard:
        run_curves.check_tensorboard(args.tensorboard, runs)
        run_curves.write_tensorboard(args.tensorboard, runs)
    if args.csv:
        atomic_file.write(args.csv, curve_files.csv_file(runs))
    if args.svg:
        atomic_file.write(args.svg, curve_files.svg_file(lines, heading))
    files = [str(file) for file in (args.svg, args.csv, args.tensorboard) if file]
    if args.json:
        return outcome.show(args, {"what": args.what, "files": files, "curves": [
            {"name": line.name, "points": line.points} for line in lines]}, "")
    if files:
        print(escaped(f"written: {', '.join(files)}"))
    else:
        print(_drawn(lines, f"{heading} by step"))
    return 0


def _drawn(lines: list, heading: str) -> str:
    """As standard output can show it."""
    from seed.evaluation import run_curves
    from seed.terminal import plot
    from seed.terminal.screen import Screen
    screen = Screen(time.monotonic, sys.stdout)
    columns, rows = screen.size()
    if all(len(line.points) == 1 for line in lines):   # they would be dots
        return "\n".join([heading, *run_curves.only_values(lines)])
    style = plot.Style(screen.is_live and not os.environ.get("NO_COLOR"),
                       not plot.can_draw(sys.stdout.encoding))
    return "\n".join(plot.plot(lines, heading, columns, rows - PROMPT_ROWS, style))
