"""Act on the robot at its rate, and learn from what is lived: candidates pass a gate and are
watched."""
import argparse
import math

from seed.commands import options, outcome

POLL_S = 0.1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_brain(parser)
    parser.add_argument("--body", required=True, metavar="NAME",
                        help="cartpole, pendulum, rover or file.py:Class, which the brain knows")
    parser.add_argument("--minutes", type=float, help="then end; default: never")
    parser.add_argument("--learn-every", type=int, default=6000, metavar="TICKS",
                        help="that are new, of which a candidate learns; 0: nothing is learnt")
    parser.add_argument("--learn-minutes", type=float, default=2.0, help="of computing, each time")


def run(args: argparse.Namespace) -> int:
    from seed.training.stop_signals import StopSignals
    signals = StopSignals().watch()
    import time
    from seed.live.learner import LiveOptions
    from seed.live.supervisor import Live
    from seed.storage.metrics import StatusLine
    from seed.systemd import notify
    from seed.task_names import absolute
    status = StatusLine(time.monotonic)
    live = Live(LiveOptions(args.run_dir, absolute(args.body), args.learn_every,
                            args.learn_minutes), status.log)
    live.start()
    notify("READY=1")
    ends_s = math.inf if args.minutes is None else time.monotonic() + 60 * args.minutes
    try:
        while not signals.stop.wait(POLL_S) and time.monotonic() < ends_s:
            live.poll()
            status.show(live.describe())
    finally:
        status.close()
        notify("STOPPING=1")
        words = live.stop()
    return outcome.show(args, words, f"{words['ticks']:.0f} ticks, {words['missed']:.0f} missed, "
                        f"{words['episodes']:.0f} episodes, the last with {words['last_return']:g}")
