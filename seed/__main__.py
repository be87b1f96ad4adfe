"""The command line: python -m seed COMMAND. Each command is a file of seed/commands."""
import argparse
import importlib
import math
import os
import sys

from seed import __version__
from seed.commands import options, streams
from seed.errors import FAILED, INTERRUPTED, RETRY_LATER, os_error_code
from seed.system_health import address_space_mb
from seed.terminal_text import one_line

COMMANDS = ("train", "shrink", "adapt", "scale", "grow", "eval", "generate", "play", "export",
            "run", "samples", "info", "health", "bench")


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="seed", description="Trains a robot's first brain on the robot itself.")
    parser.add_argument("--version", action="version", version=__version__)
    subparsers = parser.add_subparsers(dest="command", required=True)
    for name in COMMANDS:
        module = importlib.import_module(f"seed.commands.{name}_command")
        text = " ".join((module.__doc__ or "").split())
        command = subparsers.add_parser(name, help=text, description=text)
        command.add_argument("--json", action="store_true", help="print JSON")
        module.add_arguments(command)
        command.set_defaults(run_fn=module.run)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Runs a command; returns its exit code. An expected error is one line on stderr."""
    streams.protect()
    args = make_parser().parse_args(argv)
    try:
        options.check(args)
        code = args.run_fn(args)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print("seed: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of the output has closed it, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except (MemoryError, ImportError) as error:
        limit_mb = address_space_mb()
        if isinstance(error, ImportError) and limit_mb == math.inf:
            raise   # a package is missing
        reason = " ".join(f"{type(error).__name__}: {error}".removesuffix(": ").split())
        fix = (f"raise the limit of {limit_mb:.0f} MB (ulimit -v)" if limit_mb < math.inf else
               "use a smaller model or train.batch_size")
        print(f"seed: not enough memory ({reason}): end other programs, or {fix}", file=sys.stderr)
        return RETRY_LATER
    except OSError as error:
        path = error.filename or getattr(args, "run_dir", args.command)
        print(one_line(f"seed: cannot use {path}: {error.strerror}; check that it exists, is "
                       f"writable and has free space"), file=sys.stderr)
        return os_error_code(error)
    except Exception as error:
        code = getattr(error, "exit_code", None)   # of a SeedError, or of runtime.BrainError
        if code is None:
            raise
        print(one_line(f"seed: {error}"), file=sys.stderr)
        return code


if __name__ == "__main__":
    sys.exit(main())
