"""A brain that has learnt randomized bodies acts in changed ones, with its weights frozen.

    python -m seed.experiments.in_context --body cartpole --rounds 1000

Beside it a brain that was trained on just that changed body. Reported are mean returns of first and
second episodes: the first begins with an empty state, the second with what that has remembered.
"""
import argparse
from collections.abc import Callable
from typing import Any

from seed.body import open_body
from seed.body.changes import Delayed, changed
from seed.experiments.short_run import mean_return, mean_returns, opener_with, trained

CHANGES: dict[str, dict[str, dict[str, Any]]] = {
    "cartpole": {"as made": {}, "reversed": {"sign": -1},
                 "half the length": {"half_length_m": 0.25}, "twice": {"half_length_m": 1.0},
                 "half the mass": {"pole_kg": 0.05}, "twice the mass": {"pole_kg": 0.2}},
    "pendulum": {"as made": {}, "reversed": {"sign": -1},
                 "half the length": {"length_m": 0.5}, "twice": {"length_m": 2.0},
                 "half the mass": {"mass_kg": 0.5}, "twice the mass": {"mass_kg": 2.0}},
    "rover": {"as made": {}, "reversed": {"gains": [-1.0] * 4},
              "left motor dead": {"gains": [0.0, 1.0, 1.0, 1.0]},
              "right motor dead": {"gains": [1.0, 1.0, 1.0, 0.0]}}}
BODIES = 64   # that are learnt side by side: 16 tell too little of all
DELAYS = {"1 tick late": 1, "2 ticks late": 2}


def opener(name: str, change: str) -> Callable[[], Any]:
    """What makes a body with one of its changes."""
    make_fn, ticks = opener_with(name, CHANGES[name].get(change, {})), DELAYS.get(change, 0)
    return changed(make_fn, lambda body: Delayed(body, ticks)) if ticks else make_fn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--body", default="cartpole", choices=list(CHANGES))
    parser.add_argument("--rounds", type=int, default=1000, help="of the randomized training")
    parser.add_argument("--single-rounds", type=int, default=400, help="of each other training")
    parser.add_argument("--set", action="append", default=[], help="of the randomized training")
    args = parser.parse_args()
    brain = trained(args.body, 0.0, f"train.steps={args.rounds}", "body.randomize=true",
                    f"body.rows={BODIES}", *args.set)
    print(f"{args.body:<18}{'first':>10}{'second':>10}{'trained on it':>15}", flush=True)
    for change in [*CHANGES[args.body], *DELAYS]:
        open_fn = opener(args.body, change)
        first, second = mean_returns(brain, open_fn, 2)
        single = 0.0
        if args.single_rounds:
            open_body.BODIES["changed"] = open_fn
            single = mean_return(trained("changed", 0.0, f"train.steps={args.single_rounds}"),
                                 open_fn)
        print(f"{change:<18}{first:>10.1f}{second:>10.1f}{single:>15.1f}", flush=True)


if __name__ == "__main__":
    main()
