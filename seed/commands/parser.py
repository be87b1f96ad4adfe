"""The parser of the command line: help with defaults and an example, errors that name the nearest
word."""
import argparse
import importlib
import itertools
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from seed import __version__
from seed.errors import BAD_INPUT
from seed.interpreter import shown_command
from seed.settings import MIN_LIKENESS, nearest
from seed.terminal_text import fitted, one_line, unbroken

# Of each command, behind its name.
EXAMPLES = {
    "train": "--profile toy --minutes 4 --run-dir runs/first",
    "shrink": "runs/first --profile fast --out runs/small --minutes 10",
    "adapt": "runs/first --data rule.jsonl --minutes 2",
    "scale": "--run-dir runs/limit --profile toy --dry-run",
    "grow": "runs/first --to auto",
    "eval": "runs/first --html report.html",
    "chat": "runs/first",
    "generate": "runs/first --prompt '12+30='",
    "play": "runs/first --body cartpole --render",
    "export": "runs/first --out brain.tflite --int8",
    "kernels": "--profile toy --cpu cortex-a76 --out kernels",
    "live": "runs/first --body cartpole --minutes 60",
    "lineage": "runs/first",
    "run": "brain.tflite --prompt 'who are you?'",
    "runs": "",
    "rm": "runs/first",
    "samples": "--profile seed --count 2",
    "curves": "runs/first runs/second --what accuracy",
    "report": "runs/first",
    "serve": "runs/first --port 8080",
    "info": "--profile seed",
    "pack": "runs/first --out first.seedpack",
    "unpack": "first.seedpack --run-dir runs/unpacked",
    "health": "--run-dir runs/first",
    "bench": "--profile toy --turns 3",
    "completion": "bash"}
FIRST = {   # what matters at first
    "train": "train a brain, or resume it", "chat": "ask it", "eval": "measure what it can",
    "curves": "see how it has learnt", "export": "write it for the robot",
    "health": "heat, memory and power of this board"}


class HelpFormatter(argparse.HelpFormatter):
    """Tells each default that the help does not tell itself."""

    def _format_usage(self, *args: Any, **named: Any) -> str:
        """Where a line would be wider than the terminal, all are indented less, and choices that
        are still too wide stand one below the other."""
        text = super()._format_usage(*args, **named)
        if any(len(line) > self._width for line in text.splitlines()):
            text = re.sub(r"\n +", "\n  ", text)
        return "\n".join(line if len(line) <= self._width else line.replace(" | ", "\n  | ")
                         for line in text.split("\n"))

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        has_default = action.default is not None and action.default not in ("", [])
        is_told = "default" in text or action.nargs == 0   # a switch is off
        return f"{text} (default: %(default)s)" if has_default and not is_told else text


class CommandParser(argparse.ArgumentParser):
    """`error_code` is what its command ends with if it cannot do its work, if not the error's."""
    error_code: int | None = None

    def __init__(self, **texts: Any):
        super().__init__(formatter_class=HelpFormatter, **texts)
        self._words: Sequence[str] = ()   # that are parsed

    def parse_known_args(self, args=None, namespace=None):   # type: ignore[no-untyped-def]
        self._words = [] if args is None else list(args)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """An unknown flag is told before what is missing, which may be the flag that was meant."""
        unknown = next(filter(self._is_unknown, self._possible_flags()), None)
        self._end(message if unknown is None else self._unrecognized(unknown))

    def reject(self, words: Sequence[str]) -> NoReturn:
        """Ends with an error for words that were left over."""
        self._end(self._unrecognized(words[0]))

    def _end(self, message: str) -> NoReturn:
        self.exit(self.error_code or BAD_INPUT, one_line(f"{self.prog}: error: {message}") + "\n")

    def _possible_flags(self) -> Iterable[str]:
        """The words that may be flags of this parser, not of a command's or values behind `--`."""
        is_last = (lambda word: not word.startswith("-")) if self._subparsers else "--".__eq__
        return itertools.takewhile(lambda word: not is_last(word), self._words)

    def _is_unknown(self, word: str) -> bool:
        flag = word.partition("=")[0]
        return flag.startswith("--") and not any(
            known.startswith(flag) for known in self._option_string_actions)

    def _unrecognized(self, word: str) -> str:
        flag = word.partition("=")[0]
        flags = self._option_string_actions if flag.startswith("-") else ()
        fix = nearest(flag, flags, MIN_LIKENESS)
        return f"unrecognized argument {word}{fix or f'; {self.prog} --help lists what there is'}"

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            fix = nearest(str(value), action.choices, MIN_LIKENESS) or (
                f": use {', '.join(action.choices)}")
            raise argparse.ArgumentError(action, f"there is no {value!r}{fix}")


def make_parser(commands: Sequence[str]) -> CommandParser:
    parser = CommandParser(
        prog="seed", description="Trains a robot's first brain on the robot itself.",
        epilog=f"example: seed train {EXAMPLES['train']}")
    parser.add_argument("--version", action="version", version=__version__)
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND")
    parser.set_defaults(parser=parser, run_fn=_show_first_page)
    for name in commands:
        module = importlib.import_module(f"seed.commands.{name}_command")
        text = " ".join((module.__doc__ or "").split())
        command = subparsers.add_parser(
            name, help=text, description=text,
            epilog=f"example: seed {name} {EXAMPLES.get(name, '')}".rstrip())
        command.add_argument("--json", action="store_true", help="print JSON")
        module.add_arguments(command)
        command.error_code = getattr(module, "ERROR_CODE", None)
        command.set_defaults(run_fn=module.run, parser=command)
    return parser


def _show_first_page(args: argparse.Namespace) -> int:
    """What seed does without a command."""
    rows = [(name, text, f"{shown_command(name)} {EXAMPLES[name]}".rstrip())
            for name, text in FIRST.items()]
    lines = [f"Seed Brain {__version__} trains a robot's first brain on the robot itself.", ""]
    for name, text, example in rows:
        lines += [f"  {name:<8}{text}", f"{'':10}{unbroken(example)}"]
    print(fitted("\n".join([*lines, "", f"{shown_command()} --help lists all commands, "
                                        f"{shown_command()} COMMAND --help explains one"]),
                 sys.stdout))
    return 0
