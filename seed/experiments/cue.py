"""How long a brain that acts remembers: a cue at an episode's first tick decides, many ticks later,
which action is right.

    python -m seed.experiments.cue --profiles control fast mid

The cue is one of four; N ticks of noise on other channels follow, then 8 ticks that ask, in which
the action has to be that of the cue. One brain of each profile learns from episodes whose N is
drawn from a few short ones, by the profile's own recipe. Printed is the share of right answers for
longer ones, in 112 unseen episodes: 0.25 by chance.
"""
import argparse
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from seed.body import open_body
from seed.body.spaces import Box, Discrete
from seed.experiments.short_run import mean_return, trained

CUES, NOISY_CHANNELS, ASKING_TICKS = 4, 3, 8
EMPTY_TICKS = (20, 50, 100, 200)
TRAINED_TICKS = (5, 10, 20)


class Cue:
    """An observation is the cue as two signs, 0 after its tick; whether it asks; and noise."""
    observation_space = Box.of((-1, 1), (-1, 1), (0, 1), *[(-1, 1)] * NOISY_CHANNELS)
    action_space = Discrete(CUES)

    def __init__(self, n_empty: Sequence[int]):
        self.n_empty = n_empty   # one of these, drawn for each episode

    def reset(self, seed: int | None = None) -> tuple[Any, Any]:
        self._rng = np.random.default_rng(seed)
        self._cue, self._left = int(self._rng.integers(CUES)), int(self._rng.choice(self.n_empty))
        return self._seen(2 * (self._cue % 2) - 1, 2 * (self._cue // 2) - 1, 0), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        asks, self._left = self._left < 0, self._left - 1
        return (self._seen(0, 0, int(self._left < 0)), float(asks and action == self._cue),
                self._left < -ASKING_TICKS, False, {})

    def _seen(self, *numbers: int) -> Any:
        return np.array([*numbers, *self._rng.uniform(-1, 1, NOISY_CHANNELS)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profiles", nargs="+", default=["control", "fast", "mid"])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--empty", nargs="+", type=int, default=TRAINED_TICKS, help="N in training")
    parser.add_argument("--set", action="append", default=[], help="of the profile")
    args = parser.parse_args()
    open_body.BODIES["cue"] = partial(Cue, args.empty)
    print(f"{'profile':<10}{'seed':>5}" + "".join(f"{n:>7}" for n in EMPTY_TICKS), flush=True)
    for profile in args.profiles:
        for seed in range(args.seeds):
            brain = trained("cue", 0, f"train.steps={args.rounds}", f"train.seed={seed}", *args.set,
                            profile=profile)
            rights = [mean_return(brain, partial(Cue, [n])) / ASKING_TICKS
                      for n in EMPTY_TICKS]
            print(f"{profile:<10}{seed:>5}" + "".join(f"{right:>7.2f}" for right in rights),
                  flush=True)


if __name__ == "__main__":
    main()
