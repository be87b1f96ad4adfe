"""How a command ends: what it prints, and its exit code."""
import argparse
import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from seed.commands import options
from seed.commands.streams import print_result
from seed.errors import REFUSED, RETRY_LATER, StopReason
from seed.interpreter import shown_command
from seed.task_names import is_class_name
from seed.terminal_text import escaped, fitted

if TYPE_CHECKING:
    from seed.runtime import Answer
    from seed.training.pipeline import TrainResult


MORE_MINUTES = 30


def show(args: argparse.Namespace, facts: Any, text: str, is_data: bool = False) -> int:
    """Prints the facts if --json is given, else the text; `is_data`: as it is, however long its
    lines are. Returns 0."""
    if args.json:
        print_result(json.dumps(facts, default=lambda score: score.to_dict()))
    else:
        print_result(escaped(text) if is_data else fitted(escaped(text), sys.stdout))
    return 0


def show_answer(args: argparse.Namespace, answer: "Answer") -> int:
    """As `show`. Of an answer that is withheld nothing is on standard output; null with --json."""
    from seed.runtime.answer import shown
    if answer.text is None and not args.json:
        options.log(f"unsure: confidence {shown(answer.confidence)} is below "
                    f"{args.min_confidence:g}")
        return 0
    facts = {"prompt": args.prompt, "answer": answer.text, "confidence": answer.confidence,
             "has_ended": answer.has_ended}
    return show(args, facts, answer.text or "", is_data=True)


def report(args: argparse.Namespace, result: "TrainResult") -> int:
    """Prints how a training ended, with what the brain can do if it finished; returns the exit
    code. `args.table`: as tables."""
    if not result.finished:
        options.log(f"stopped at step {result.step}; run the same command to resume")
        return RETRY_LATER if result.reason is StopReason.OUT_OF_MEMORY else 0
    if getattr(args, "table", False):
        text = _tables(result)
    else:
        from seed.evaluation.ending import ending
        text = ending(result.step, result.elapsed_s, result.measured, result.returns,
                      result.choices, _next_commands(args, result))
    facts = {name: [row.to_dict() for row in rows] for name, rows in (
        ("scores", result.scores), ("uniform", result.uniform), ("returns", result.returns),
        ("choices", result.choices))}
    return show(args, {"step": result.step, "summary": result.measured.to_dict(), **facts}, text)


def _tables(result: "TrainResult") -> str:
    from seed.body.results import choices_table, returns_table
    from seed.evaluation.exact_match import taught_lines
    from seed.evaluation.score_summary import table
    tables = [f"finished at step {result.step}"]
    if result.scores:
        tables += [table(result.measured), *taught_lines(result.scores)]
    if result.returns:
        tables.append(returns_table(result.returns))
    if result.choices:
        tables.append(choices_table(result.choices))
    return "\n".join(tables)


def _next_commands(args: argparse.Namespace, result: "TrainResult") -> dict[str, str]:
    """What for, and a command that can be pasted."""
    run = args.run_dir
    bodies = [f"--body={name}" for name in getattr(args, "bodies", []) if is_class_name(name)]
    commands = {}
    if result.scores:
        commands["talk to it"] = shown_command("chat", str(run))
    if result.returns:
        commands["see it act"] = shown_command("play", str(run), *bodies)
    if run.report.is_file():
        commands["see it"] = run.report.absolute().as_uri()
    commands["train on"] = shown_command("train", "--run-dir", str(run), *bodies,
                                         "--minutes", f"{MORE_MINUTES:g}")
    commands["put on robot"] = shown_command("export", str(run), *bodies)
    return commands


def report_adaptation(args: argparse.Namespace, result: "TrainResult | None", refusal: str,
                      facts: dict[str, Any], table_fn: Callable[[], str]) -> int:
    """As `report`, with what was before and after; `result` is None if it is in place already.
    `refusal`: why the brain stays as it was."""
    if result is None:
        return show(args, {"ended": "already"}, "this adaptation is in place already: undo it, or "
                    "change its options or data")
    if not result.finished:
        return report(args, result)
    if not refusal:
        return show(args, {"step": result.step, **facts}, table_fn())
    show(args, {"step": result.step, "refused": refusal, **facts}, table_fn())
    sys.stdout.flush()   # it follows the table
    options.log(f"seed: {refusal}: the brain stays as it was; give better or more data, or other "
                f"--min-gain and --max-loss")
    return REFUSED
