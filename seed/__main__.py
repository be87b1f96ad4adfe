"""The command line: python -m seed COMMAND. Each command is a file of seed/commands."""
import argparse
import errno
import math
import os
import sys
import traceback

import seed.own_hashes  # noqa: F401  (before all that imports hashlib)
from seed.commands import kernels_command, options, parser, streams
from seed.errors import BAD_INPUT, FAILED, INTERRUPTED, RETRY_LATER, KernelMissing, os_error_code
from seed.system_health import address_space_mb
from seed.terminal_text import one_line

COMMANDS = ("train", "shrink", "adapt", "scale", "grow", "eval", "chat", "generate", "play",
            "export", "kernels", "live", "lineage", "run", "runs", "rm", "samples", "curves",
            "report", "serve", "info", "pack", "unpack", "health", "bench", "completion")


def make_parser() -> argparse.ArgumentParser:
    return parser.make_parser(COMMANDS)


def main(argv: list[str] | None = None) -> int:
    """Runs a command; returns its exit code. An expected error is one line on stderr."""
    streams.protect()
    args, unknown = make_parser().parse_known_args(argv)
    if unknown:
        args.parser.reject(unknown)
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
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "seed"):
            raise
        fix = ("install all of Python, as apt install python3 does"
               if package in sys.stdlib_module_names else f"pip install {package}")
        print(f"seed: {package} is not installed, and this command needs it: {fix}",
              file=sys.stderr)
        return BAD_INPUT, False
    except (MemoryError, ImportError) as error:
        limit_mb = address_space_mb()
        if isinstance(error, ImportError) and limit_mb == math.inf:
            raise   # a package is damaged
        reason = " ".join(f"{type(error).__name__}: {error}".removesuffix(": ").split())
        fix = (f"raise the limit of {limit_mb:.0f} MB (ulimit -v)" if limit_mb < math.inf else
               "use a smaller model or train.batch_size")
        print(f"seed: not enough memory ({reason}): end other programs, or {fix}", file=sys.stderr)
        return RETRY_LATER, False
    except OSError as error:
        path = error.filename or getattr(args, "run_dir", None) or "the output"
        fix = ("raise the limit on the size of a file (ulimit -f)" if error.errno == errno.EFBIG
               else "check that it exists, is writable and has free space")
        print(one_line(f"seed: cannot use {path}: {error.strerror}; {fix}"), file=sys.stderr)
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
