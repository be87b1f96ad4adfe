"""What acting costs: a step of control by each path that a brain acts on, which take turns, and a
byte of rollouts of many rows.

A step of control is an observation in, an action out, with one thread and an untrained brain of a
narrow body: by the trainer, by `Brain.act` of an exported file in the TFLite runtime, and by its C
source, called from Python, with each compiler that is here. Of a rollout "model" is the forward
pass alone, "answers" a whole byte of `Rollouts.answer`, whose sampling is numpy's.
"""
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from seed.bench.control_steps import (OBSERVATIONS, TimedBrain, codecs, observations,
                                      untrained_brain, untrained_file)
from seed.bench.turns import Turns, take_turns
from seed.body.codec import Codec
from seed.body.player import Player
from seed.config import Profile
from seed.evaluation import TrainedBrain
from seed.export import Options
from seed.export.c_file import COMPILERS, CompiledBrain
from seed.export.c_source import c_source
from seed.export.operations import LITERT
from seed.wavecore.decode import CarriedForward, Rollouts
from seed.wavecore.model import WaveCore

STEPS_PER_TURN, ANSWER_BYTES = 50, 50
ROWS = (1, 16, 32, 64)
NO_STOP = 256   # no byte ends an answer
TRAINER = "trainer"


class TimedPlayer:
    """The trainer's step of control of one row, with observations at random."""

    def __init__(self, brain: TrainedBrain, codec: Codec):
        self.codec, self.n = codec, 0
        self.player = Player(WaveCore(brain.profile.model, brain.params, bodies=[codec.body]),
                             codec, 1)
        self.observations = observations((each.low, each.high) for each in codec.channels)
        self.choices = np.zeros((1, len(codec.actions)), np.int64)

    def tick(self) -> None:
        self.n += 1
        levels = self.codec.levels(self.observations[self.n % OBSERVATIONS][None])[0]
        logits = self.player.tick(*self.codec.encode(levels, self.choices))
        self.choices = self.codec.sample(logits)[1]
        self.codec.decode(self.choices[0])


class TimedSource:
    """A C source in its first body, with observations at random."""

    def __init__(self, source: bytes, compiler: str, codec: Codec):
        self.brain, self.n = CompiledBrain(source, compiler), 0
        self.brain.begin(0)
        self.observations = observations((each.low, each.high) for each in codec.channels)
        self.action = np.empty(len(codec.actions))
        self.control = np.empty(codec.body.control.rows, np.float32)

    def tick(self) -> None:
        self.n += 1
        self.brain.act(self.observations[self.n % OBSERVATIONS], self.action, self.control)


def control_turns(profile: Profile) -> dict[str, Turns]:
    """The paths by name; the trainer's first."""
    codec = codecs()[0]
    brain = untrained_brain(codec, profile)
    paths = {TRAINER: TimedPlayer(brain, codec).tick}
    with tempfile.TemporaryDirectory() as folder:
        for target in (Options().target, LITERT):
            path = untrained_file(brain, codec, Path(folder), target)
            paths[f"TFLite, {target}"] = TimedBrain(path).tick
    source = c_source(brain)
    for compiler in filter(shutil.which, COMPILERS):
        paths[f"C, {compiler}"] = TimedSource(source, compiler, codec).tick
    return {name: Turns(tick_fn, STEPS_PER_TURN) for name, tick_fn in paths.items()}


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


def bench(profile: Profile, threads: int, turns: int, minutes: float) -> dict[str, Any]:
    """All figures; `threads` of rollouts. Turns end with the time (take_turns)."""
    ends_s = time.monotonic() + 60 * minutes
    control = control_turns(profile)
    brain = untrained_brain(codecs()[0], profile)
    model = WaveCore(profile.model, brain.params, threads, bodies=[codecs()[0].body])
    rollouts = {rows: rollout_turns(model, rows) for rows in ROWS}
    everything = [*control.values(), *(each for pair in rollouts.values() for each in pair)]
    take_turns(everything, 1)   # which compiles and captures
    for each in everything:
        each.turns.clear()
    take_turns(everything, turns, ends_s)
    base = control[TRAINER]
    return {"profile": profile.name, "threads": threads, "turns": len(base.turns),
            "control": [{"path": name, "us": 1e6 * each.seconds, "per_s": 1 / each.seconds,
                         "of_trainer": each.ratio(base)._asdict()}
                        for name, each in control.items()],
            "rollouts": [{"rows": rows, "model_ms": 1e3 * forward.seconds,
                          "answers_ms": 1e3 * answers.seconds}
                         for rows, (forward, answers) in rollouts.items()]}


def table(report: dict[str, Any]) -> str:
    lines = [f"profile {report['profile']}, turns: {report['turns']}",
             f"{'step of control':<20}{'us':>9}"
             f"{'a second':>10}{'of trainer':>12}{'least - most':>15}"]
    for row in report["control"]:
        ratio = row["of_trainer"]
        span = f"{ratio['least']:.2f} - {ratio['greatest']:.2f}"
        lines.append(f"{row['path']:<20}{row['us']:>9.1f}{row['per_s']:>10,.0f}"
                     f"{ratio['median']:>12.2f}{span:>15}")
    lines += ["", f"a byte of rollouts, threads: {report['threads']}",
              f"{'rows':<20}{'model ms':>9}"
              f"{'a row us':>10}{'answers ms':>12}"]
    return "\n".join([*lines, *_rollout_lines(report["rollouts"])])


def _rollout_lines(rows: Sequence[dict[str, Any]]) -> list[str]:
    return [f"{row['rows']:<20}{row['model_ms']:>9.3f}{1e3 * row['model_ms'] / row['rows']:>10.1f}"
            f"{row['answers_ms']:>12.3f}" for row in rows]
