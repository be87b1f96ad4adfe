"""Times one control step: an observation in, an action out, through `Brain.act` with one thread.

    python -m seed.bench.control_steps [brain.tflite ...]

Without files it makes untrained ones, for a body of 4 numbers and 2 choices, and for one of 60
numbers and 14 parts of an action. The files take turns; "call" is the runtime's own.
"""
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median

import numpy as np

from seed.bench import command_line
from seed.bench.turns import Turns, take_turns
from seed.body.codec import Channel, Codec
from seed.body.facts import Facts
from seed.body.value_range import ValueRange
from seed.config import Profile
from seed.errors import ConfigError
from seed.evaluation import TrainedBrain
from seed.export import Options
from seed.export.brain_file import BrainFile
from seed.export.operations import LITERT
from seed.profile_file import load_profile
from seed.runtime import Brain
from seed.wavecore.actor import init_body
from seed.wavecore.model import init_params

TURNS, TICKS_PER_TURN = 20, 500
OBSERVATIONS = 64   # that are given in turn, so that no tick is like the one before
TORQUES = tuple(map(float, np.linspace(-1, 1, 9)))


def codecs() -> list[Codec]:
    """A narrow and a wide body; every second channel is logarithmic."""
    narrow, wide = (tuple(Channel(-1.0 - i, 1.0 + i, bool(i % 2)) for i in range(n))
                    for n in (4, 60))
    return [Codec("narrow", narrow, ((0.0, 1.0),), "index"),
            Codec("wide", wide, (TORQUES,) * 14, "numbers", (14,))]


def untrained_brain(codec: Codec, profile: Profile) -> TrainedBrain:
    """A brain of one body that has learned nothing."""
    params = init_params(profile.model, 0) | init_body(profile.model, codec.body, 0)
    return TrainedBrain(profile, 0, params,
                        bodies={codec.name: Facts(codec, ValueRange(0.0, 1.0))})


def untrained_file(brain: TrainedBrain, codec: Codec, folder: Path, target: str) -> Path:
    path = folder / f"{codec.name} {target}"
    path.write_bytes(BrainFile(brain, Options(target)).tobytes())
    return path


def untrained(codec: Codec, folder: Path, profile_name: str, target: str) -> Path:
    """The file of a brain that has learned nothing."""
    return untrained_file(untrained_brain(codec, load_profile(profile_name)), codec, folder, target)


def observations(ranges: Iterable[tuple[float, float]]) -> np.ndarray:
    """At random within the channels' ranges, (OBSERVATIONS, channels)."""
    low, high = np.array([*ranges]).T
    return np.random.default_rng(0).uniform(low, high, (OBSERVATIONS, len(low)))


class TimedBrain:
    """Acts in its first body, with observations at random."""

    def __init__(self, path: Path):
        """Raises BrainError, ConfigError if it has no body."""
        self.name, self.brain = path.name, Brain(path)
        body = next(iter(self.brain.bodies), None)
        if body is None:
            raise ConfigError(f"{path} has no body that it could act in: time it with python -m "
                              f"seed.bench.steps")
        self.brain.begin(body)
        channels = self.brain.description["bodies"][body]["codec"]["channels"]
        self.observations = observations((each["low"], each["high"]) for each in channels)
        self.calls = Turns(self.brain.interpreter.invoke, TICKS_PER_TURN)
        self.ticks = Turns(self.tick, TICKS_PER_TURN)
        self.n = 0

    def tick(self) -> None:
        self.n += 1
        self.brain.act(self.observations[self.n % OBSERVATIONS])

    def row(self) -> str:
        p99s = [1e6 * np.percentile(turn, 99) for turn in self.ticks.turns]
        return (f"{self.name:<24}{1e6 * self.calls.seconds:>9.1f}{1e6 * self.ticks.seconds:>9.1f}"
                f"{median(p99s):>9.1f}{min(p99s):>11.1f}")


def measured(files: Sequence[Path], profile_name: str) -> str:
    """The table. Raises ConfigError, BrainError."""
    with tempfile.TemporaryDirectory() as folder:
        paths = files or [untrained(codec, Path(folder), profile_name, target)
                          for codec in codecs() for target in (Options().target, LITERT)]
        brains = [TimedBrain(path) for path in paths]
    take_turns((turns for brain in brains for turns in (brain.calls, brain.ticks)), TURNS)
    return "\n".join([
        brains[0].brain.runtime,
        f"{'file':<24}{'call us':>9}{'act p50':>9}{'p99':>9}{'least p99':>11}",
        *(brain.row() for brain in brains)])


def main() -> int:
    parser = command_line.make_parser(__doc__)
    parser.add_argument("files", type=Path, nargs="*")
    parser.add_argument("--profile", default="control", help="of the untrained brains")
    args = parser.parse_args()
    return command_line.run("control_steps", lambda: measured(args.files, args.profile))


if __name__ == "__main__":
    sys.exit(main())
