"""A robot with two driven wheels on each side that has to reach a goal among round obstacles.

It sees the goal's direction and distance, its sides' speeds, and the distances that eight range
finders measure. The reward of a tick is by how much it has come nearer to the goal, in m; 5 more
at the goal, 2 less for a collision, which ends the episode.
"""
import math
import random
from typing import Any

import numpy as np

from seed.body.render import bar
from seed.body.spaces import Box

TICK_S, MAX_TICKS = 0.1, 300
ROOM_M, ROBOT_M, GOAL_M = 6.0, 0.2, 0.3   # the room's side; radii of the robot and of the goal
WHEEL_GAP_M, MAX_WHEEL_M_S, MOTOR_LAG = 0.3, 1.0, 0.5
MOTORS_OF_SIDES = (0, 1), (2, 3)          # front and rear: left, right
N_RANGES, MAX_RANGE_M = 8, 2.0
N_OBSTACLES, MIN_OBSTACLE_M, MAX_OBSTACLE_M = 5, 0.2, 0.5
GOAL_REWARD, COLLISION_COST = 5.0, 2.0


class Rover:
    """Observation: cosine and sine of the goal's direction, its distance (m), the speeds of the
    left and the right side (m/s), eight distances (m) counterclockwise from ahead. Action: the
    speeds that the four motors aim at, -1 .. 1 of the largest; a side moves at the mean of its two.
    """
    observation_space = Box.of((-1, 1), (-1, 1), (0, 1.5 * ROOM_M),
                               *[(-MAX_WHEEL_M_S, MAX_WHEEL_M_S)] * 2,
                               *[(0, MAX_RANGE_M)] * N_RANGES)
    action_space = Box.of(*[(-1, 1)] * 4)
    rate_hz = 1 / TICK_S

    def __init__(self) -> None:
        self.gains = [1.0] * 4   # of each motor: 0 is dead, below 0 reversed
        self.gap_m = WHEEL_GAP_M

    def randomize(self, rng: random.Random) -> None:
        """Other motors (half to full speed; all reversed in one of four bodies, one dead in one of
        four) and another gap between the wheels."""
        sign = 1 if rng.random() < 0.75 else -1
        self.gains = [sign * (0.5 + 0.5 * rng.random()) for _ in range(4)]
        if rng.random() < 0.25:
            self.gains[int(4 * rng.random())] = 0.0
        self.gap_m = WHEEL_GAP_M * 2 ** (rng.random() - 0.5)

    def reset(self, seed: int | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        rng = random.Random(seed)

        def place() -> tuple[float, float]:
            return tuple(0.5 + (ROOM_M - 1) * rng.random() for _ in range(2))   # type: ignore
        self._x, self._y = place()
        self._heading = math.tau * rng.random()
        self._speeds, self._ticks = [0.0, 0.0], 0   # m/s, of the sides
        self._goal = place()
        while math.dist(self._goal, (self._x, self._y)) < 2:
            self._goal = place()
        self._obstacles: list[tuple[float, float, float]] = []   # x, y and radius, in m
        while len(self._obstacles) < N_OBSTACLES:
            x, y = place()
            radius = MIN_OBSTACLE_M + (MAX_OBSTACLE_M - MIN_OBSTACLE_M) * rng.random()
            if min(math.dist((x, y), (self._x, self._y)),
                   math.dist((x, y), self._goal)) > radius + 2 * ROBOT_M:
                self._obstacles.append((x, y, radius))
        return self._observation(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        before_m = math.dist(self._goal, (self._x, self._y))
        aims = [min(max(float(number), -1.0), 1.0) * MAX_WHEEL_M_S * gain
                for number, gain in zip(action, self.gains)]
        for side, (front, rear) in enumerate(MOTORS_OF_SIDES):
            aim = (aims[front] + aims[rear]) / 2
            self._speeds[side] += MOTOR_LAG * (aim - self._speeds[side])
        left, right = self._speeds
        self._heading = (self._heading + TICK_S * (right - left) / self.gap_m) % math.tau
        self._x += TICK_S * (left + right) / 2 * math.cos(self._heading)
        self._y += TICK_S * (left + right) / 2 * math.sin(self._heading)
        self._ticks += 1
        distance_m = math.dist(self._goal, (self._x, self._y))
        is_there, collides = distance_m < GOAL_M, self._collides()
        reward = before_m - distance_m + GOAL_REWARD * is_there - COLLISION_COST * collides
        ends = is_there or collides
        return (self._observation(), reward, ends, not ends and self._ticks >= MAX_TICKS,
                {"is_success": is_there})

    def render(self) -> str:
        cos, sin, distance_m, left, right, *ranges = self._observation()
        return (f"goal {distance_m:4.2f} m {bar(math.atan2(-sin, cos), math.pi)}  sides "
                f"{left:+.2f} {right:+.2f} m/s  free {min(ranges):.2f} m")

    def _collides(self) -> bool:
        is_inside = (ROBOT_M < self._x < ROOM_M - ROBOT_M and ROBOT_M < self._y < ROOM_M - ROBOT_M)
        return not is_inside or any(math.dist((x, y), (self._x, self._y)) < radius + ROBOT_M
                                    for x, y, radius in self._obstacles)

    def _observation(self) -> np.ndarray:
        dx, dy = self._goal[0] - self._x, self._goal[1] - self._y
        bearing = math.atan2(dy, dx) - self._heading
        ranges = [self._range_m(self._heading + math.tau * i / N_RANGES) for i in range(N_RANGES)]
        return np.array([math.cos(bearing), math.sin(bearing), math.hypot(dx, dy), *self._speeds,
                         *ranges])

    def _range_m(self, angle: float) -> float:
        """The free way in that direction, from the robot's middle."""
        cos, sin, nearest = math.cos(angle), math.sin(angle), MAX_RANGE_M
        for at, slope in ((self._x, cos), (self._y, sin)):
            if abs(slope) > 1e-9:
                nearest = min(nearest, ((ROOM_M if slope > 0 else 0) - at) / slope)
        for x, y, radius in self._obstacles:
            along = (x - self._x) * cos + (y - self._y) * sin
            across2 = (x - self._x) ** 2 + (y - self._y) ** 2 - along ** 2
            if along > 0 and across2 < radius ** 2:
                nearest = min(nearest, along - math.sqrt(radius ** 2 - across2))
        return max(0.0, nearest)
