"""Times what acting costs: a byte of rollouts of many rows, and the trainer's control step beside
that of an exported file.

    python -m seed.bench.rollout [--profile seed] [--rows 1 16 32 64] [--threads 1]

All take turns in one run, with an untrained brain. "model" is the forward pass alone, "answers" a
whole byte of `Rollouts.answer`, whose sampling is numpy's. A control step is an observation in, an
action out: the file's is `Brain.act`.
"""
import argparse
import tempfile
from pathlib import Path

import numpy as np

from seed.bench.control_steps import OBSERVATIONS, TimedBrain, codecs, untrained
from seed.bench.turns import Turns
from seed.body.codec import Codec
from seed.body.player import Player
from seed.config import ModelConfig
from seed.export import Options
from seed.profile_file import load_profile
from seed.wavecore.actor import init_body
from seed.wavecore.decode import CarriedForward, Rollouts
from seed.wavecore.model import WaveCore, init_params

TURNS, STEPS_PER_TURN, ANSWER_BYTES = 10, 50, 50
NO_STOP = 256   # no byte ends an answer


def rollout_turns(model: WaveCore, rows: int) -> tuple[Turns, Turns]:
    """The forward pass, and a byte of answers."""
    forward = CarriedForward(model, model.init_state(rows), rows, 1)
    rollouts = Rollouts(model, rows)
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 256, (rows, 1))
    prompts = [bytes([int(byte)]) for byte in tokens[:, 0]]
    return (Turns(lambda: forward(tokens), STEPS_PER_TURN),
            Turns(lambda: rollouts.answer(prompts, ANSWER_BYTES, NO_STOP, 1.0, rng), 1,
                  ANSWER_BYTES))


class TimedPlayer:
    """The trainer's control step of one row, with observations at random."""

    def __init__(self, config: ModelConfig, codec: Codec):
        params = init_params(config, 0) | init_body(config, codec.body, 0)
        self.codec, self.n = codec, 0
        self.player = Player(WaveCore(config, params, bodies=[codec.body]), codec, 1)
        low, high = (np.array([getattr(channel, end) for channel in codec.channels])
                     for end in ("low", "high"))
        self.observations = np.random.default_rng(0).uniform(
            low, high, (OBSERVATIONS, 1, len(codec.channels)))
        self.choices = np.zeros((1, len(codec.actions)), np.int64)

    def tick(self) -> None:
        self.n += 1
        levels = self.codec.levels(self.observations[self.n % OBSERVATIONS])[0]
        logits = self.player.tick(*self.codec.encode(levels, self.choices))
        self.choices = self.codec.sample(logits)[1]
        self.codec.decode(self.choices[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="seed", help="of the untrained brain")
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 16, 32, 64])
    parser.add_argument("--threads", type=int, default=1, help="of rollouts")
    args = parser.parse_args()
    config, codec = load_profile(args.profile).model, codecs()[0]
    model = WaveCore(config, init_params(config, 0), args.threads)
    rollouts = {rows: rollout_turns(model, rows) for rows in args.rows}
    with tempfile.TemporaryDirectory() as folder:
        file = TimedBrain(untrained(codec, Path(folder), args.profile, Options().target))
    ticks = [Turns(tick, STEPS_PER_TURN) for tick in (TimedPlayer(config, codec).tick, file.tick)]
    for _ in range(TURNS + 1):   # the first compiles and captures
        for turns in (*(turns for pair in rollouts.values() for turns in pair), *ticks):
            turns.turn()
    for turns in (*(turns for pair in rollouts.values() for turns in pair), *ticks):
        del turns.medians[0]
    print(f"{args.profile}, {args.threads} threads, {file.brain.runtime}\n{'rows':<16}"
          f"{'model ms':>9}{'a row us':>9}{'answers ms':>11}")
    for rows, (forward, answers) in rollouts.items():
        print(f"{rows:<16}{1e3 * forward.seconds:>9.3f}{1e6 * forward.seconds / rows:>9.1f}"
              f"{1e3 * answers.seconds:>11.3f}")
    print(f"{'control step':<16}{'us':>9}{'x file':>9}")
    for name, tick in zip(("trainer", "file"), ticks):
        print(f"{name:<16}{1e6 * tick.seconds:>9.1f}{tick.ratio(ticks[1]):>9.2f}")


if __name__ == "__main__":
    main()
