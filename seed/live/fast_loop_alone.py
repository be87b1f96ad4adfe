"""The fast loop without anything that learns, until a signal or for a stated time.

    python -m seed.live.fast_loop_alone --live-dir DIR --brain FILE --body NAME
"""
import argparse
import json
import math
import sys
import time
from pathlib import Path

from seed.errors import SeedError, os_error_code
from seed.live.fast_loop import FastLoop, Options
from seed.systemd import notify
from seed.task_names import absolute
from seed.terminal_text import one_line
from seed.training.stop_signals import watched

POLL_S = 0.1


def run(options: Options, seconds: float) -> int:
    """Until a signal, or so long; prints a line for what happens. The exit code."""
    with watched(None) as signals:
        loop = FastLoop(options, signals.stop.is_set)
        loop.start()
        notify("READY=1")
        ends_s = time.monotonic() + seconds
        print(f"{options.body} at {loop.rate_hz:g} Hz", flush=True)
        while not signals.stop.wait(POLL_S) and time.monotonic() < ends_s:
            for event in loop.poll():
                print(one_line(event["text"]), flush=True)
        notify("STOPPING=1")
        words = loop.block.words()
        loop.stop()
    print(json.dumps(words))
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--live-dir", type=Path, required=True)
    parser.add_argument("--brain", type=Path, required=True, help="an exported file")
    parser.add_argument("--body", required=True, help="built-in, or robot.py:MyRobot")
    parser.add_argument("--brain-body", help="what the brain calls the body, if another name")
    parser.add_argument("--rate-hz", type=float, help="the body's own, or that of the brain's loop")
    parser.add_argument("--heartbeat", default="", help="gets a byte 10 times a second")
    parser.add_argument("--seconds", type=float, default=math.inf, help="to run")
    args = parser.parse_args()
    try:
        return run(Options(args.live_dir, args.brain, absolute(args.body), args.brain_body,
                           args.rate_hz, heartbeat=args.heartbeat), args.seconds)
    except SeedError as error:
        print(one_line(f"error: {error}"), file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(one_line(f"error: cannot use {error.filename or args.live_dir}: {error.strerror}; "
                       f"check that it is writable and has free space"), file=sys.stderr)
        return os_error_code(error)


if __name__ == "__main__":
    sys.exit(main())
