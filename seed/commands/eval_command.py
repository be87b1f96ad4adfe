"""Evaluate a brain on items it was never trained on."""
import argparse

from seed.commands import options, outcome


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--html", type=options.path, metavar="FILE",
                        help="write a report with plots")
    parser.add_argument("--items", type=int, metavar="N",
                        help="items per task and level (default: the profile's holdout_items)")
    options.add_tasks(parser)
    options.add_brain(parser)


def run(args: argparse.Namespace) -> int:
    from seed.evaluation import evaluate_brain
    from seed.evaluation.brain_report import text_summary
    from seed.evaluation.html_report import check_html, encoded, page
    from seed.evaluation.run_facts import read_run
    from seed.storage import atomic_file
    if args.html:
        check_html(args.html)
    with options.working("evaluating"):
        results = evaluate_brain(args.run_dir, args.threads, args.items, options.log,
                                 options.named_tasks(args))
    code = outcome.show(args, results, text_summary(results))
    if args.html:   # last: the results are printed even if it cannot be written
        atomic_file.write(args.html, encoded(page(read_run(args.run_dir), results)))
    return code
