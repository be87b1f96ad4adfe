"""The command line of the benchmarks that run as modules, python -m seed.bench.NAME: their options,
and what a person reads while they measure, or where they cannot."""
import argparse
import sys
import time
from collections.abc import Callable

from seed.errors import SeedError, os_error_code
from seed.runtime import BrainError
from seed.terminal.screen import Screen
from seed.terminal_text import one_line


def make_parser(doc: str) -> argparse.ArgumentParser:
    """`doc`: of the module, whose first paragraph says what it measures."""
    return argparse.ArgumentParser(description=doc.partition("\n\n")[0])


def add_profile(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument("--profile", default=default)
    parser.add_argument("--set", action="append", default=[], dest="overrides",
                        metavar="a.b=value", help="override one key of the profile")


def run(name: str, measure_fn: Callable[[], str]) -> int:
    """Prints what `measure_fn` returns; returns the exit code. An expected error is one line on
    stderr that begins with the module's name."""
    try:
        with Screen(time.monotonic).working(lambda: "measuring"):
            text = measure_fn()
    except OSError as error:
        reason = f"cannot use {error.filename or 'a file'}: {error.strerror}; check its name"
        code = os_error_code(error)
    except (SeedError, BrainError) as error:
        reason, code = str(error), error.exit_code
    else:
        print(text)
        return 0
    print(one_line(f"{name}: {reason}"), file=sys.stderr)
    return code
