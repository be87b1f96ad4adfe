"""From a checkpoint to the bytes of a TFLite file. The same checkpoint gives the same bytes."""
import dataclasses
import json
from typing import Any

import seed
from seed.config import ModelConfig, Profile, from_dict
from seed.curriculum.vocab import END, PAD, VOCAB_SIZE
from seed.export.graph import Options, build, start_of, state_shapes
from seed.export.operations import LITERT
from seed.runtime import CHECKSUM_DIGITS, FORMAT, MAGIC, seal
from seed.storage.checkpoint import Checkpoint
from seed.errors import CheckpointError
from seed.wavecore.layout import blocks

METADATA = "seed"
RUNTIMES = {"ai-edge-litert": "2.1.6", "tflite-runtime": "2.14.0"}   # oldest that is tested


class Source:
    """A checkpoint that is to be exported: its profile and its weights, without the moments.

    Raises CheckpointError if a weight is missing.
    """

    def __init__(self, found: Checkpoint):
        self.profile: Profile = from_dict(found.meta["profile"])
        self.step: int = found.meta["step"]
        self.sha256 = found.sha256
        self.params = {}
        for block in blocks(self.profile.model):
            for array in block.arrays:
                key = block.key(array)
                tensor = found.tensors.get(key)
                if tensor is None or tensor.shape != array.shape:
                    raise CheckpointError(f"the checkpoint's {key} is missing or misshaped: train "
                                          f"on, or use another --run-dir")
                self.params[key] = tensor


def _states(config: ModelConfig, target: str) -> dict[str, Any]:
    return {name: {"shape": shape, "start": start_of(name)}
            for name, shape in state_shapes(config, target).items()}


def translate(source: Source, options: Options, scores: list[dict[str, Any]] | None) -> bytes:
    """A sealed file. `scores`: what it reached on holdout, None if it was not verified."""
    profile = source.profile
    model = build(profile.model, source.params, options,
                  f"seed brain {profile.name} at step {source.step}")
    runtimes = {name: oldest for name, oldest in RUNTIMES.items()
                if options.target != LITERT or name == "ai-edge-litert"}
    description = {
        "blake2b": "0" * CHECKSUM_DIGITS, "format": FORMAT, "made_by": f"seed {seed.__version__}",
        "runtimes": runtimes,
        **dataclasses.asdict(options), "profile": profile.to_dict(), "step": source.step,
        "states": _states(profile.model, options.target),
        "vocabulary": {"size": VOCAB_SIZE, "end": END, "pad": PAD, "encoding": "utf-8"},
        "checkpoint_sha256": source.sha256, "verified": scores is not None, "holdout": scores}
    oldest = "2.14.0" if "tflite-runtime" in runtimes else "2.17.0"
    model.describe("min_runtime_version", oldest.encode().ljust(16, b"\0"))
    model.describe(METADATA, json.dumps(description, separators=(",", ":")).encode())
    data = model.tobytes()
    assert data[4:8] == MAGIC
    return seal(data)
