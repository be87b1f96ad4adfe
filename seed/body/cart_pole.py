"""A pole on a cart that is pushed left or right (Barto, Sutton and Anderson 1983), as Gymnasium's
CartPole-v1: reward 1 a tick until it falls or 500 ticks have passed."""
import math
import random
from typing import Any

import numpy as np

from seed.body.render import bar
from seed.body.spaces import Box, Discrete

GRAVITY, CART_KG, POLE_KG = 9.8, 1.0, 0.1
TICK_S = 0.02
MAX_X, MAX_ANGLE, MAX_TICKS = 2.4, math.radians(12), 500


class CartPole:
    """Observation: position (m), speed (m/s), angle (rad), angular speed (rad/s) of the pole."""
    observation_space = Box.of((-2 * MAX_X, 2 * MAX_X), (-math.inf, math.inf),
                               (-2 * MAX_ANGLE, 2 * MAX_ANGLE), (-math.inf, math.inf))
    action_space = Discrete(2)
    rate_hz = 1 / TICK_S

    def __init__(self) -> None:
        self.half_length_m, self.pole_kg, self.force_n, self.sign = 0.5, POLE_KG, 10.0, 1
        self.gravity = GRAVITY

    def randomize(self, rng: random.Random) -> None:
        """Another length, mass and force, each half to double; in every second body the push is
        reversed."""
        self.half_length_m = 0.5 * 2 ** (2 * rng.random() - 1)
        self.pole_kg = POLE_KG * 2 ** (2 * rng.random() - 1)
        self.force_n = 10 * 2 ** (2 * rng.random() - 1)
        self.sign = 1 if rng.random() < 0.5 else -1

    def reset(self, seed: int | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        rng = random.Random(seed)
        self._state = [0.1 * rng.random() - 0.05 for _ in range(4)]
        self._ticks = 0
        return np.array(self._state), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        x, speed, angle, spin = self._state
        force = self.force_n * (2 * action - 1) * self.sign
        sin, cos, total = math.sin(angle), math.cos(angle), CART_KG + self.pole_kg
        push = (force + self.pole_kg * self.half_length_m * spin * spin * sin) / total
        angular = (self.gravity * sin - cos * push) / (
            self.half_length_m * (4 / 3 - self.pole_kg * cos * cos / total))
        linear = push - self.pole_kg * self.half_length_m * angular * cos / total
        self._state = [x + TICK_S * speed, speed + TICK_S * linear,
                       angle + TICK_S * spin, spin + TICK_S * angular]
        self._ticks += 1
        fallen = abs(self._state[0]) > MAX_X or abs(self._state[2]) > MAX_ANGLE
        return (np.array(self._state), 1.0, fallen, not fallen and self._ticks >= MAX_TICKS, {})

    def render(self) -> str:
        x, _, angle, _ = self._state
        return (f"cart {x:+.2f} m {bar(x, MAX_X)}  pole {math.degrees(angle):+5.1f} degrees "
                f"{bar(angle, MAX_ANGLE)}")
