"""Prune a trained brain to a smaller one, which then learns from its parent's predictions."""
import argparse

from seed.commands import options, outcome


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_profile(parser, default="fast")
    parser.add_argument("--out", type=options.run_dir, required=True,
                        help="the child's run directory")
    options.add_budget(parser, 10.0, "the child's training")
    options.add_brain(parser)


def run(args: argparse.Namespace) -> int:
    from seed.training.stop_signals import StopSignals
    signals = StopSignals().watch()
    from seed.evaluation.score_summary import Measured, comparison
    from seed.resize import shrink_brain
    with options.working("shrinking"):
        result, parent_scores, agreement, parent_uniform = shrink_brain(
            args.run_dir, args.out, options.profile_from(args), args.threads, options.log, signals,
            options.screen())
    if not result.finished:
        return outcome.report(args, result)
    parent, child = Measured(parent_scores, parent_uniform), result.measured
    return outcome.show(
        args, {"step": result.step, "agreement": agreement, "parent": parent.levels,
               "scores": child.levels,
               "summary": {"parent": parent.to_dict(), "child": child.to_dict()}},
        f"{comparison(('parent', 'child'), parent, child)}\nDone: {result.step:,} "
        f"steps. Parent and child answer {100 * agreement:.1f} % of the items alike.")
