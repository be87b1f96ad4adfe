"""Evaluate a brain on items it was never trained on."""
import argparse
from pathlib import Path

from seed.commands import options, outcome


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a report with plots")
    parser.add_argument("--items", type=int, metavar="N",
                        help="items per task and level (default: the profile's holdout_items)")
    options.add_brain(parser)


def run(args: argparse.Namespace) -> int:
    from seed.evaluation import evaluate_brain
    from seed.evaluation.brain_report import text_summary
    from seed.evaluation.html_report import page
    results = evaluate_brain(args.run_dir, args.threads, args.items, options.log)
    if args.html:
        args.html.write_text(page(results), encoding="utf-8")
    return outcome.show(args, results, text_summary(results))
