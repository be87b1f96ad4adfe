"""An untrained brain with two bodies, and files of it."""
from pathlib import Path

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
    profile = load_profile("control", [*SHAPE, *overrides])
    facts: dict[str, Facts] = {name: measure(name, opener(name), BodyConfig(), 0) for name in NAMES}
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
