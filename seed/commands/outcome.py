"""How a command ends: what it prints, and its exit code."""
import argparse
import json
import shlex
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from seed.commands import options
from seed.errors import RETRY_LATER, StopReason
from seed.task_names import is_class_name
from seed.terminal_text import escaped

if TYPE_CHECKING:
    from seed.training.pipeline import TrainResult


def show(args: argparse.Namespace, facts: Any, text: str) -> int:
    """Prints the facts if --json is given, else the text. Returns 0."""
    print(json.dumps(facts, default=lambda score: score.to_dict()) if args.json else escaped(text))
    return 0


def report(args: argparse.Namespace, result: "TrainResult") -> int:
    """Prints how a training ended, with its scores if it finished; returns the exit code."""
    from seed.evaluation.exact_match import table
    if not result.finished:
        options.log(f"stopped at step {result.step}; run the same command to resume")
        return RETRY_LATER if result.reason is StopReason.OUT_OF_MEMORY else 0
    tables = [f"finished at step {result.step}"]
    if result.scores:
        tables.append(table(result.scores, levels=False))
    if result.returns:
        from seed.body.results import returns_table
        tables.append(returns_table(result.returns))
    if result.choices:
        from seed.body.results import choices_table
        tables.append(choices_table(result.choices))
    facts = {name: [row.to_dict() for row in rows] for name, rows in (
        ("returns", result.returns), ("choices", result.choices))}
    code = show(args, {"step": result.step, "scores": result.scores, **facts}, "\n".join(tables))
    if (result.returns or result.choices) and not args.json:
        _tell_next(args, bool(result.returns))
    return code


def _tell_next(args: argparse.Namespace, opens: bool) -> None:
    """What to do with a brain that acts."""
    sys.stdout.flush()   # it follows the tables
    brain = shlex.join([f"--run-dir={args.run_dir}", *(
        f"--body={name}" for name in args.bodies if is_class_name(name))])
    if opens:
        options.log(f"see it act: python -m seed play {brain}")
    options.log(f"for the robot: python -m seed export {brain}")


def report_adaptation(args: argparse.Namespace, result: "TrainResult | None",
                      facts: dict[str, Any], table_fn: Callable[[], str]) -> int:
    """As `report`, with what was before and after; `result` is None if it is in place already."""
    if result is None:
        return show(args, {"ended": "already"}, "this adaptation is in place already: undo it, or "
                    "change its options or data")
    if not result.finished:
        return report(args, result)
    return show(args, {"step": result.step, **facts}, table_fn())
