"""A pendulum that a weak motor has to swing up and hold, as Gymnasium's Pendulum-v1: the reward is
minus what the angle, the speed and the torque cost; 200 ticks."""
import math
import random
from typing import Any

import numpy as np

from seed.body.render import bar
from seed.body.spaces import Box

TICK_S, GRAVITY = 0.05, 10.0
MAX_SPEED, MAX_TORQUE, MAX_TICKS = 8.0, 2.0, 200


class Pendulum:
    """Observation: cosine and sine of the angle from upright, angular speed (rad/s). Action: the
    torque (N m)."""
    observation_space = Box.of((-1, 1), (-1, 1), (-MAX_SPEED, MAX_SPEED))
    action_space = Box.of((-MAX_TORQUE, MAX_TORQUE))
    rate_hz = 1 / TICK_S

    def __init__(self) -> None:
        self.mass_kg, self.length_m, self.sign, self.gravity = 1.0, 1.0, 1, GRAVITY

    def randomize(self, rng: random.Random) -> None:
        """Another mass and length, each half to double; in every second body the torque is
        reversed."""
        self.mass_kg, self.length_m = (2 ** (2 * rng.random() - 1) for _ in range(2))
        self.sign = 1 if rng.random() < 0.5 else -1

    def reset(self, seed: int | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        rng = random.Random(seed)
        self._angle, self._speed = math.pi * (2 * rng.random() - 1), 2 * rng.random() - 1
        self._ticks = 0
        return self._observation(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        torque = min(max(float(action[0]), -MAX_TORQUE), MAX_TORQUE)
        angle = (self._angle + math.pi) % (2 * math.pi) - math.pi
        cost = angle ** 2 + 0.1 * self._speed ** 2 + 0.001 * torque ** 2
        acceleration = (1.5 * self.gravity / self.length_m * math.sin(self._angle)
                        + 3 * self.sign * torque / (self.mass_kg * self.length_m ** 2))
        self._speed = min(max(self._speed + TICK_S * acceleration, -MAX_SPEED), MAX_SPEED)
        self._angle += TICK_S * self._speed
        self._ticks += 1
        return self._observation(), -cost, False, self._ticks >= MAX_TICKS, {}

    def render(self) -> str:
        angle = (self._angle + math.pi) % math.tau - math.pi
        return (f"{math.degrees(angle):+6.1f} degrees from upright {bar(angle, math.pi)}  "
                f"{self._speed:+5.2f} rad/s")

    def _observation(self) -> np.ndarray:
        return np.array([math.cos(self._angle), math.sin(self._angle), self._speed])
