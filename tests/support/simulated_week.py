"""A robot, its board and its days for a supervisor whose clock is simulated.

The fast loop is the only part of seed that is not the real one: its brain acts, in this process, as
often as the simulated time asks for, and records what it does.
"""
import json
import math
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from seed.body.cart_pole import CartPole
from seed.live.fast_loop import EPISODES, Options
from seed.live.safety import State
from seed.live.shared_block import Block, remove
from seed.runtime import Brain
from seed.system_health import Health
from tests.support.fake_board import health

HOUR_S, DAY_S = 3600.0, 86400.0
DAWN_H, DUSK_H = 6, 22          # the robot rests in between
DRIVEN_H = (12, 13)             # a person drives it
EPISODE_FILE_BYTES = 2 ** 18


class SimulatedTime:
    """Seconds of a simulated life. `wall` is Unix time, which begins now, at midnight there."""

    def __init__(self) -> None:
        self.now_s, self._began = 0.0, time.time()

    def __call__(self) -> float:
        return self.now_s

    def wall(self) -> float:
        return self._began + self.now_s

    @property
    def day(self) -> int:
        return int(self.now_s // DAY_S)

    @property
    def hour(self) -> float:
        return self.now_s % DAY_S / HOUR_S

    @property
    def is_night(self) -> bool:
        return not DAWN_H <= self.hour < DUSK_H

    @property
    def is_driven(self) -> bool:
        return DRIVEN_H[0] <= self.hour < DRIVEN_H[1]


def board(clock: SimulatedTime) -> Health:
    """It is warmest at three in the afternoon, and on the second day too hot to learn."""
    hottest_c = 84.0 if clock.day == 1 else 72.0
    warmth = max(0.0, math.cos(2 * math.pi * (clock.hour - 15) / 24))
    return health(round((45 + (hottest_c - 45) * warmth) / 0.55) * 0.55)


def write_report(clock: SimulatedTime, path: Path) -> None:
    """What the robot says of itself: it is charged while it rests."""
    awake_h = max(0.0, min(clock.hour, DUSK_H) - DAWN_H)
    text = json.dumps({
        "level": "ok", "time": clock.wall(), "idle": clock.is_night, "charging": clock.is_night,
        "battery_percent": round(100 - 4.5 * awake_h, 1), "teleoperated": clock.is_driven})
    path.with_suffix(".new").write_text(text)
    os.replace(path.with_suffix(".new"), path)


class SimulatedLoop:
    """A fast loop as seed/live/fast_loop.py is for its parent; it keeps every deadline, of another
    clock than the heartbeat, which it leaves out. `pole`: the body, which may change."""

    def __init__(self, options: Options, pole: CartPole):
        self.options, self.brain_path, self._pole = options, options.brain, pole
        self._rng, self._generation = random.Random(0), 0
        self.events: list[dict[str, Any]] = []

    def lock(self) -> None:
        """No other process is there."""

    def start(self) -> None:
        self.options.live_dir.mkdir(parents=True, exist_ok=True)
        self.block = Block.create(self.options.live_dir)
        self.block["state"], self.block["period_ns"] = State.ACTING, 20_000_000
        self.previous: Brain | None = None
        self._acting = self._load(self.brain_path)
        self._record()
        self._reset()

    def _load(self, path: Path) -> Brain:
        self._generation += 1
        self.block["generation"] = self._generation
        brain = Brain(path)
        brain.begin(self.options.body)
        return brain

    @property
    def brain(self) -> SimpleNamespace:
        return SimpleNamespace(generation=self._generation, path=str(self.brain_path))

    def _record(self) -> None:
        body = self.options.body
        self._acting.record(self.options.live_dir / EPISODES, body)
        self._acting.recorders[body].limit(EPISODE_FILE_BYTES, math.inf)

    def _reset(self) -> None:
        self._seen, self._reward = self._pole.reset(self._rng.randrange(10 ** 9))[0], 0.0
        self.block["episode_return"] = self.block["episode_ticks"] = 0
        self._acting.begin(self.options.body, keep_state=True)

    def live(self, n_ticks: int) -> None:
        """So many ticks."""
        block, brain = self.block, self._acting
        explore: Any = 1 if block["explore"] else None
        for _ in range(n_ticks):
            action, nats = brain.act(self._seen, self._reward, surprise=True, explore=explore)
            self._seen, self._reward, fallen, is_over, _ = self._pole.step(action)
            if nats == nats:
                block["surprise"] += (nats - block["surprise"]) / 100
            block["episode_return"] += self._reward
            block["total_reward"] += self._reward
            block["episode_ticks"] += 1
            if fallen or is_over:
                brain.end(self._seen, self._reward, is_terminal=fallen)
                block["last_return"] = block["episode_return"]
                block["episodes"] += 1
                self._reset()
        block["ticks"] += n_ticks
        block["steps"] += n_ticks

    def poll(self) -> list[dict[str, Any]]:
        return []

    def _swap(self, brain: Brain, path: Path) -> None:
        self._acting.record(None, self.options.body)
        self.previous, self._acting, self.brain_path = self._acting, brain, path
        self.block["swaps"] += 1
        self._record()
        self._reset()

    def promote(self, path: Path) -> int:
        self._swap(self._load(path), path)
        return self._generation

    def roll_back(self, path: Path) -> None:
        self._swap(self._load(path), path)
        self.previous = None

    def confirm(self) -> None:
        self.previous = None

    def clear(self) -> None:
        """Nothing is latched."""

    def stop(self) -> None:
        self._acting.record(None, self.options.body)
        remove(self.options.live_dir)


def loops(pole: CartPole) -> Callable[..., SimulatedLoop]:
    """In place of FastLoop."""
    return lambda options, should_stop_fn: SimulatedLoop(options, pole)
