"""Act on the robot at its rate, and learn from what is lived: candidates pass a gate and are
watched."""
import argparse

from seed.commands import options, outcome
from seed.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_brain(parser, "none")
    parser.add_argument("--body", metavar="NAME",
                        help="cartpole, pendulum, rover or file.py:Class, which the brain knows")
    parser.add_argument("--clear", action="store_true",
                        help="let the brain act again after faults that only a person clears, and "
                             "end")
    parser.add_argument("--minutes", type=float, help="then end; default: never")
    parser.add_argument("--learn-every", type=int, metavar="TICKS",
                        help="that are new, of which a candidate learns (default: the profile's, "
                             "6000 if it has none); 0: nothing is learnt")
    parser.add_argument("--learn-minutes", type=float,
                        help="of computing, each time (default: the profile's, 2 if it has none)")
    parser.add_argument("--heartbeat", default="", metavar="PATH",
                        help="a FIFO or /dev/watchdog, which gets a byte 10 times a second while "
                             "ticks run and the body answers")
    parser.add_argument("--profile", help="whose [live] and [governor] count (default: those of "
                                          "the run directory's brain)")
    options.add_overrides(parser, "live", "governor")
    options.add_board(parser)


def run(args: argparse.Namespace) -> int:
    if args.clear:
        return _clear(args)
    if not args.body:
        raise ConfigError("--body is missing: name the body that the brain acts in")
    from seed.training.stop_signals import StopSignals
    signals = StopSignals().watch()   # before tinygrad is imported, which takes seconds
    from seed.live.life import live
    from seed.live.supervisor import LiveOptions
    from seed.task_names import absolute
    profile = options.life_profile(args)
    with options.run_dir_from(args).locked() as run_dir:
        words = live(LiveOptions(run_dir, absolute(args.body), profile, args.threads,
                                 {"heartbeat": args.heartbeat}), args.minutes, signals)
    return outcome.show(args, words, f"{words['ticks']:.0f} ticks, {words['missed']:.0f} missed, "
                        f"{words['episodes']:.0f} episodes, the last with {words['last_return']:g}")


def _clear(args: argparse.Namespace) -> int:
    from seed.live import latch
    from seed.live.brains import live_dir_of
    was_latched = latch.clear(live_dir_of(args.run_dir))
    return outcome.show(args, {"cleared": was_latched}, "cleared: the brain may act again"
                        if was_latched else "nothing is latched")
