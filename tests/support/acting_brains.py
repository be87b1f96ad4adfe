"""An untrained brain with two bodies, and files of it."""
from collections.abc import Callable
from pathlib import Path
from typing import Any

from seed.body.facts import Facts, measure
from seed.body.open_body import opener
from seed.config import BodyConfig
from seed.evaluation import TrainedBrain
from seed.export import Options
from seed.export.brain_file import BrainFile
from seed.profile_file import load_profile
from seed.runtime import Brain
from seed.wavecore.actor import init_body
from seed.wavecore.model import init_params

SHAPE = ["model.d_model=32", "model.d_ff=32", "model.n_layers=2", 'model.pattern="SA"',
         "model.sliding_window=4"]
NAMES = ("cartpole", "rover")
KINDS = {"portable": Options(), "litert": Options("litert"), "explicit": Options(
    explicit_state=True, prefill=3), "int8": Options(weights="int8")}


def untrained(*overrides: str) -> TrainedBrain:
    return untrained_for({name: opener(name) for name in NAMES}, *overrides)


def untrained_for(openers: dict[str, Callable[[], Any]], *overrides: str) -> TrainedBrain:
    """Of bodies by name, each with what makes one of them."""
    profile = load_profile("control", [*SHAPE, *overrides])
    facts: dict[str, Facts] = {name: measure(name, open_fn, BodyConfig(), 0)
                               for name, open_fn in openers.items()}
    params = init_params(profile.model, 0)
    for fact in facts.values():
        params |= init_body(profile.model, fact.codec.body, 0)
    for name, array in params.items():
        if name.startswith("bodies."):   # so that choices differ clearly
            array *= 10
    return TrainedBrain(profile, 0, params, bodies=facts)


def file_of(trained: TrainedBrain, folder: Path, options: Options = Options()) -> Brain:
    path = folder / "brain.tflite"
    path.write_bytes(BrainFile(trained, options).tobytes())
    return Brain(path)
