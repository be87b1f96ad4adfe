"""The learning rate and the end of a run: warm-up, constant, then linear to zero.

A run by steps is planned at once. A run by minutes is planned when its constant part has used its
share of the time: from then on it is a run by as many steps as the rest of the time allows.
"""
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from seed.config import TrainConfig

PLAN_EVERY_STEPS = 20   # a run by minutes is planned at a multiple of this
MIN_TIMED_STEPS = 5     # by which the speed of a process is known


@dataclass(frozen=True)
class Plan:
    """Steps before the decay, and steps of the whole run; None while not known."""
    decay_start: int | None = None
    total_steps: int | None = None


def replan(config: TrainConfig, plan: Plan, step: int, elapsed_s: float,
           step_s: float | None) -> Plan:
    """The plan before step `step` (counted from 0) with `elapsed_s` of training behind it, when a
    step takes `step_s`; a run by minutes is not planned before that is known."""
    if plan.total_steps is not None:
        return plan
    if config.steps:
        return Plan(config.steps - round(config.steps * config.decay_fraction), config.steps)
    constant_s = config.minutes * 60 * (1 - config.decay_fraction)
    if step_s is None or step % PLAN_EVERY_STEPS or elapsed_s < constant_s:
        return plan
    left_s = max(0.0, config.minutes * 60 - elapsed_s)
    return Plan(step, step + round(left_s / max(1e-9, step_s)))


def lr_at(config: TrainConfig, plan: Plan, step: int, scale: float = 1.0) -> float:
    """Learning rate of step `step`; `scale` is 1/2 for each rollback."""
    lr = config.lr * scale * min(1.0, (step + 1) / max(1, config.warmup_steps))
    if plan.decay_start is None or plan.total_steps is None or step < plan.decay_start:
        return lr
    return lr * (plan.total_steps - step) / max(1, plan.total_steps - plan.decay_start)


class WorkClock:
    """Seconds in which this process or its compilers computed.

    A pause for heat, SIGSTOP, a suspended board, or a CPU that other programs take does not count.
    """

    def __init__(self) -> None:
        self._total_s, self._wall_s, self._cpu_s = 0.0, time.monotonic(), _cpu_s()

    def __call__(self) -> float:
        wall_s, cpu_s = time.monotonic(), _cpu_s()
        self._total_s += min(wall_s - self._wall_s, cpu_s - self._cpu_s)
        self._wall_s, self._cpu_s = wall_s, cpu_s
        return self._total_s


def _cpu_s() -> float:
    used = os.times()
    return time.process_time() + used.children_user + used.children_system


class StepTimer:
    """Seconds per step of this process, without its first, which compiles."""

    def __init__(self, clock: Callable[[], float]):
        self._clock, self._count, self._began_s = clock, 0, 0.0

    def count_step(self) -> None:
        self._count += 1
        if self._count == 1:
            self._began_s = self._clock()

    @property
    def step_s(self) -> float | None:
        """None before a few steps."""
        timed = self._count - 1
        return (self._clock() - self._began_s) / timed if timed >= MIN_TIMED_STEPS else None
