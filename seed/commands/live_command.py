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
    parser.add_argument("--learn-every", type=int, metavar="TICKS",
                        help="that are new, of which a candidate learns (default 6000); 0: nothing "
                             "is learnt")
    parser.add_argument("--learn-minutes", type=float,
                        help="of computing, each time (default 2)")
    parser.add_argument("--heartbeat", default="", metavar="PATH",
                        help="a FIFO or /dev/watchdog, which gets a byte 10 times a second while "
                             "ticks run and the body answers")
    parser.add_argument("--profile", help="whose [live] and [governor] count (default: those of "
                                          "the run directory's brain)")
    options.add_overrides(parser, "live", "governor")
    options.add_board(parser)


def run(args: argparse.Namespace) -> int:
    from seed.training.stop_signals import StopSignals
    signals = StopSignals().watch()
    import time
    from seed.live.status import LiveStatus
    from seed.live.supervisor import Live, LiveOptions
    from seed.storage.metrics import StatusLine
    from seed.systemd import notify
    from seed.task_names import absolute
    args.run_dir = options.run_dir_from(args)
    profile = options.life_profile(args)
    line = StatusLine(time.monotonic)
    with args.run_dir.locked() as run_dir:
        live = Live(LiveOptions(run_dir, absolute(args.body), profile, args.threads,
                                {"heartbeat": args.heartbeat}), line.log)
        status = LiveStatus(live, line.log)
        live.start()
        notify("READY=1")
        ends_s = math.inf if args.minutes is None else time.monotonic() + 60 * args.minutes
        ending = "failed"
        try:
            while not signals.stop.wait(POLL_S) and time.monotonic() < ends_s:
                live.poll()
                status.update()
                line.show(live.describe())
            ending = "stopped"
        finally:
            line.close()
            notify("STOPPING=1")
            words = live.stop()
            status.write(ending, words)
    return outcome.show(args, words, f"{words['ticks']:.0f} ticks, {words['missed']:.0f} missed, "
                        f"{words['episodes']:.0f} episodes, the last with {words['last_return']:g}")
