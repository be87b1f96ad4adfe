"""Evaluate a brain on items it was never trained on, or on recorded data."""
import argparse

from seed.commands import options, outcome
from seed.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--html", type=options.path, metavar="FILE",
                        help="write a report with plots")
    parser.add_argument("--items", type=int, metavar="N",
                        help="items per task and level (default: the profile's holdout_items)")
    parser.add_argument("--data", type=options.named, metavar="NAME",
                        help="items.jsonl, notes.txt or a directory of episodes: how much of it "
                             "the brain gets right, instead of its own tasks; then RUN may be an "
                             "exported .tflite file")
    options.add_tasks(parser)
    options.add_brain(parser)


def run(args: argparse.Namespace) -> int:
    if args.data:
        return _on_data(args)
    if args.run_dir.path.is_file():
        raise ConfigError(f"{args.run_dir} is a file: an exported one is evaluated on --data; "
                          f"without that, name a directory")
    from seed.evaluation import evaluate_brain
    from seed.evaluation.brain_report import text_summary
    from seed.evaluation.html_page import encoded
    from seed.evaluation.html_report import check_html, page
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


def _on_data(args: argparse.Namespace) -> int:
    from seed.evaluation import TrainedBrain
    from seed.evaluation.on_data import exported_on_data, table, trained_on_data
    from seed.runtime import Brain
    if args.html or args.items:
        raise ConfigError("--html and --items are of the brain's own tasks: leave out --data")
    path = args.run_dir.path
    rows = (exported_on_data(Brain(path), args.data) if path.is_file() else
            trained_on_data(TrainedBrain.load(args.run_dir, args.threads, options.log), args.data))
    return outcome.show(args, [row.to_dict() for row in rows], table(rows))
