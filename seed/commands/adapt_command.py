"""Teach a brain a new rule from recorded examples or a body that has changed, or undo that."""
import argparse
import os
from typing import Any

from seed.commands import options, outcome
from seed.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=options.named, metavar="FILE",
                        help="items.jsonl, notes.txt, path.py:Class, or a directory of episodes")
    parser.add_argument("--body", metavar="NAME", help="a body that has changed")
    parser.add_argument("--as", dest="new_name", metavar="NAME", type=options.named,
                        help="of the body of --data, beside the old; default: the episodes' name")
    parser.add_argument("--same-as", metavar="NAME", type=options.named,
                        help="the body of the brain that it was; default: that of its name, of its "
                             "episodes' name, or the only one")
    options.add_budget(parser, 2.0, "the adaptation")
    parser.add_argument("--share", type=float, default=0.3, help="of new items in the mixture")
    parser.add_argument("--lr", type=float, default=1e-3, help="at d_model 64")
    parser.add_argument("--light", action="store_true", help="in less memory: trains no matrices")
    options.add_limits(parser)
    parser.add_argument("--undo", action="store_true", help="restore the one before; 3 times")
    options.add_tasks(parser)
    options.add_overrides(parser, "governor")
    options.add_brain(parser, "none")


def run(args: argparse.Namespace) -> int:
    from seed.training.stop_signals import StopSignals
    signals = StopSignals().watch()   # before numpy starts threads
    from seed.evaluation.score_summary import comparison
    from seed.training import adapt_brain, undo_adaptation
    if args.undo:
        undo_adaptation(args.run_dir)
        return outcome.show(args, {"undone": True}, "the brain is as before the last adaptation")
    if args.body or args.data and os.path.isdir(args.data):
        return _adapt_to_body(args, signals)
    if args.data and (args.new_name or args.same_as):
        raise ConfigError(f"{args.data} has no episodes of a body: leave out --as and --same-as")
    if not args.data:
        raise ConfigError("--data is missing: name examples, episodes or a --body")
    with options.working("adapting"):
        result = adapt_brain(args.run_dir, args.data, args.threads, options.log, signals,
                             share=args.share, **_recipe(args))
    return outcome.report_adaptation(
        args, result.train, result.refusal, result.facts,
        lambda: comparison(("before", "after"), *result.measured))


def _adapt_to_body(args: argparse.Namespace, signals: Any) -> int:
    from seed.body.results import acting_comparison
    from seed.training import adapt_to_body
    if args.body and args.data:
        raise ConfigError("--body and --data are both given: use the one that has changed")
    with options.working("adapting"):
        result = adapt_to_body(args.run_dir, args.body or "", args.data or "", args.same_as or "",
                               args.threads, options.log, signals, new_name=args.new_name or "",
                               **_recipe(args))
    return outcome.report_adaptation(
        args, result.train, result.refusal, result.facts, lambda: acting_comparison(
            result.before, result.after, result.in_context))


def _recipe(args: argparse.Namespace) -> dict[str, Any]:
    return {"minutes": args.minutes, "steps": args.steps or 0, "lr": args.lr, "light": args.light,
            "tasks": options.named_tasks(args), "overrides": args.overrides,
            "limits": options.limits_from(args), "screen": options.screen()}
