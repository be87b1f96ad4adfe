"""Write the page of a run: its curves, scores and examples, without evaluating it again."""
import argparse

from seed.commands import options, outcome


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--html", type=options.path, metavar="FILE",
                        help="where to (default: report.html in the run directory)")
    options.add_run(parser)


def run(args: argparse.Namespace) -> int:
    from seed.evaluation.html_report import check_html, write_report
    path = args.html or args.run_dir.report
    check_html(path, is_given=bool(args.html))
    write_report(args.run_dir, path)
    uri = path.absolute().as_uri()
    return outcome.show(args, {"html": str(path), "uri": uri}, uri)
