"""The command line: python -m seed COMMAND. Each command is a file of seed/commands."""
import argparse
import importlib
import math
import os
import sys
import traceback
from typing import NoReturn

from seed import __version__
from seed.commands import kernels_command, options, streams
from seed.errors import (BAD_INPUT, FAILED, INTERRUPTED, RETRY_LATER, KernelMissing,
                         os_error_code)
from seed.system_health import address_space_mb
from seed.terminal_text import one_line

COMMANDS = ("train", "shrink", "adapt", "scale", "grow", "eval", "chat", "generate", "play",
            "export", "kernels", "live", "lineage", "run", "runs", "rm", "samples", "curves",
            "report", "info", "health", "bench")


class CommandParser(argparse.ArgumentParser):
    """`error_code` is what its command ends with if it cannot do its work, if not the error's."""
    error_code: int | None = None

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(self.error_code or BAD_INPUT, f"{self.prog}: error: {message}\n")


def make_parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        prog="seed", description="Trains a robot's first brain on the robot itself.")
    parser.add_argument("--version", action="version", version=__version__)
    subparsers = parser.add_subparsers(dest="command", required=True)
    for name in COMMANDS:
        module = importlib.import_module(f"seed.commands.{name}_command")
        text = " ".join((module.__doc__ or "").split())
        command = subparsers.add_parser(name, help=text, description=text)
        command.add_argument("--json", action="store_true", help="print JSON")
        module.add_arguments(command)
        command.error_code = getattr(module, "ERROR_CODE", None)
        command.set_defaults(run_fn=module.run, parser=command)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Runs a command; returns its exit code. An expected error is one line on stderr."""
    streams.protect()
    args, unknown = make_parser().parse_known_args(argv)
    if unknown:
        args.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    code, is_done = _run(args)
    return code if is_done or code == INTERRUPTED else args.parser.error_code or code


def _run(args: argparse.Namespace) -> tuple[int, bool]:
    """Exit code, and whether the command has done its work."""
    try:
        options.check(args)
        options.choose_run(args)
        code = args.run_fn(args)
        sys.stdout.flush()
        return code, True
    except KeyboardInterrupt:
        print("seed: interrupted", file=sys.stderr)
        return INTERRUPTED, False
    except BrokenPipeError:  # the reader of the output has closed it, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED, False
    except (MemoryError, ImportError) as error:
        limit_mb = address_space_mb()
        if isinstance(error, ImportError) and limit_mb == math.inf:
            raise   # a package is missing
        reason = " ".join(f"{type(error).__name__}: {error}".removesuffix(": ").split())
        fix = (f"raise the limit of {limit_mb:.0f} MB (ulimit -v)" if limit_mb < math.inf else
               "use a smaller model or train.batch_size")
        print(f"seed: not enough memory ({reason}): end other programs, or {fix}", file=sys.stderr)
        return RETRY_LATER, False
    except OSError as error:
        path = error.filename or getattr(args, "run_dir", args.command)
        print(one_line(f"seed: cannot use {path}: {error.strerror}; check that it exists, is "
                       f"writable and has free space"), file=sys.stderr)
        return os_error_code(error), False
    except Exception as error:
        code = getattr(error, "exit_code", None)   # of a SeedError, or of runtime.BrainError
        if code is None and args.parser.error_code is None:
            raise
        if code is None:
            traceback.print_exc()
            return FAILED, False
        end = f": {kernels_command.advice(args)}" if isinstance(error, KernelMissing) else ""
        print(one_line(f"seed: {error}{end}"), file=sys.stderr)
        return code, False


if __name__ == "__main__":
    sys.exit(main())
