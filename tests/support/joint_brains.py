"""Exported brains of a joint, untrained: of its angle and speed, and of these and a target."""
from pathlib import Path

import numpy as np

from seed.body.spaces import Box
from seed.export import Options
from seed.export.brain_file import BrainFile
from tests.support.acting_brains import untrained_for


class Joint:
    rate_hz = 50
    observation_space = Box.of((-3.2, 3.2), (-10.0, 10.0))
    action_space = Box.of((-1.0, 1.0))

    def reset(self, seed=None):
        return np.zeros(len(self.observation_space.low)), {}

    def step(self, action):
        return self.reset()[0], 1.0, False, False, {}


class AimedJoint(Joint):
    observation_space = Box.of((-3.2, 3.2), (-10.0, 10.0), (-3.2, 3.2))


def export(made_by: type, name: str, path: Path) -> Path:
    path.write_bytes(BrainFile(untrained_for({name: made_by}), Options()).tobytes())
    return path
