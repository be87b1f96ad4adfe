"""A checkpoint's brain with its bodies, ready to act."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from seed.body.closed_loop import Returns, act
from seed.body.open_body import opener
from seed.body.play import Facts
from seed.body.player import Player
from seed.config import nearest
from seed.errors import CheckpointError, ConfigError
from seed.evaluation.trained_brain import TrainedBrain, stored_params
from seed.storage import RunDir
from seed.storage.run_dir import Log
from seed.wavecore.model import WaveCore

MAX_ROWS = 16   # bodies side by side


@dataclass(frozen=True)
class ActingBrain:
    """`facts` by the bodies' names."""
    brain: TrainedBrain
    facts: dict[str, Facts]

    @classmethod
    def load(cls, run_dir: RunDir, threads: int = 1, log: Log = print) -> ActingBrain:
        """A run directory's newest. Raises ConfigError if it has none, or no bodies;
        CheckpointError."""
        checkpoint = run_dir.load_brain(log)
        stored = checkpoint.meta.get("bodies", {})
        if not stored:
            raise ConfigError(f"{run_dir} has a brain without a body: train it with --body")
        try:
            facts = {name: Facts.from_dict(fields) for name, fields in stored.items()}
        except (ConfigError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{run_dir.checkpoint}: {error}") from None
        brain = TrainedBrain.of(checkpoint, threads)
        params = stored_params(brain.profile.model, checkpoint.tensors,
                               [fact.codec.body for fact in facts.values()])
        return cls(TrainedBrain(brain.profile, brain.step, params, threads, brain.sha256), facts)

    @property
    def names(self) -> list[str]:
        return list(self.facts)

    @cached_property
    def model(self) -> WaveCore:
        return WaveCore(self.brain.profile.model, self.brain.params, self.brain.threads,
                        bodies=[fact.codec.body for fact in self.facts.values()])

    def returns(self, name: str, episodes: int, seed: int, greedy: bool = True,
                open_fn: Callable[[], Any] | None = None) -> Returns:
        """Of unseen episodes of a body. Raises ConfigError, BodyError."""
        if name not in self.facts:
            raise ConfigError(f"this brain has no body {name}{nearest(name, self.facts)}")
        rows = min(MAX_ROWS, episodes)
        player = Player(self.model, self.facts[name].codec, rows)
        played = act(player, open_fn or opener(name), seed, episodes, greedy=greedy)
        assert played is not None, "nothing asks it to stop"
        return Returns.of(name, played)
