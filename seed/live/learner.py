"""A process that makes a candidate beside the fast loop, as its parent has it."""
import json
import math
import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from seed.interpreter import die_with_parent, seed_command
from seed.live.learn import SLOW, Candidate, Plan, forget, has_begun, prepare, work_of
from seed.live.lived import Memory
from seed.live.pace import Pace
from seed.storage.run_dir import Log

RETRY_S = 60.0            # after a learner that failed
STOP_S = 15.0             # that it has to save what it has learnt


def learner_command(live_dir: Path, kind: str, threads: int) -> list[str]:
    return seed_command(str(live_dir), kind, f"--threads={threads}", module="seed.live.learn")


class Learner:
    """Of one kind (learn.py); at most one process. It is due every so many ticks; 0: never."""

    def __init__(self, live_dir: Path, kind: str, every_ticks: int, threads: int, log: Log,
                 clock: Callable[[], float] = time.monotonic):
        self.live_dir, self.kind, self._every_ticks, self._threads = (
            live_dir, kind, every_ticks or math.inf, threads)
        self._log, self._clock = log, clock
        self._process: subprocess.Popen | None = None
        self._is_still, self._retry_at_s = False, 0.0
        self._killed_at_s = math.inf    # if it does not end by itself until then
        self._next_if_finished = math.inf
        self.next_ticks = 0 if kind == SLOW and has_begun(live_dir, kind) else self._every_ticks

    @property
    def is_running(self) -> bool:
        return self._process is not None

    @property
    def is_ending(self) -> bool:
        return self._killed_at_s < math.inf

    def is_due(self, ticks: int) -> bool:
        return (not self.is_running and self._clock() >= self._retry_at_s
                and ticks >= self.next_ticks)

    def start(self, plan: Plan, memory: Memory, ticks: int, newest: int) -> None:
        """Learns of the `newest` ticks. Raises OSError, ConfigError: there is nothing yet."""
        self.next_ticks = self._next_if_finished = ticks + self._every_ticks
        prepare(self.live_dir, self.kind, plan, memory, newest)
        self._output = open(self._work / "learner.log", "ab")
        self._process = subprocess.Popen(
            learner_command(self.live_dir, self.kind, self._threads), stdout=subprocess.PIPE,
            stderr=self._output, stdin=subprocess.DEVNULL, start_new_session=True,
            preexec_fn=partial(die_with_parent, os.getpid()))

    @property
    def _work(self) -> Path:
        return work_of(self.live_dir, self.kind).path

    def follow(self, pace: Pace) -> None:
        """Runs, stands still or ends as there is time for it."""
        if self._process is None:
            return
        if pace.must_stop:
            self.ask_to_stop()
        if self.is_ending:
            if self._clock() > self._killed_at_s:
                self._signal(signal.SIGKILL)
        elif pace.may_run == self._is_still:
            self._is_still = not self._is_still
            self._signal(signal.SIGSTOP if self._is_still else signal.SIGCONT)

    def result(self) -> Candidate | None:
        """Once, when it has ended."""
        if self._process is None or self._process.poll() is None:
            return None
        code, was_asked = self._process.returncode, self.is_ending
        output, _ = self._process.communicate()
        self._end()
        if was_asked:
            self.next_ticks = 0   # unless it has finished, it continues when it may
        try:
            fields = json.loads(output.decode().splitlines()[-1])
            candidate = Candidate(**{**fields, "figures": tuple(fields["figures"])})
        except (IndexError, KeyError, TypeError, ValueError):
            if not was_asked:
                self._retry_at_s = self._clock() + RETRY_S
                self._log(f"the learner ended ({code}) without a candidate: see "
                          f"{self._work / 'learner.log'}")
            return None
        if not candidate.is_finished:
            return None
        self.next_ticks = self._next_if_finished
        return candidate

    def _signal(self, number: int) -> None:
        assert self._process
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def _end(self) -> None:
        self._process, self._is_still, self._killed_at_s = None, False, math.inf
        self._output.close()

    def ask_to_stop(self) -> None:
        """It saves what it has learnt, and continues when it is started again."""
        if self._process and not self.is_ending:
            self._killed_at_s = self._clock() + STOP_S
            self._signal(signal.SIGCONT)
            self._signal(signal.SIGTERM)

    def abandon(self, ticks: int) -> None:
        """What it learns of is of before tick `ticks`: it begins anew with what follows that."""
        self.stop(0.0)
        forget(self.live_dir, self.kind)
        self.next_ticks = ticks + self._every_ticks

    def stop(self, wait_s: float = STOP_S) -> None:
        """It has ended when this returns."""
        if self._process is None:
            return
        self.ask_to_stop()
        try:
            self._process.communicate(timeout=wait_s)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            self._process.communicate()
        self._end()
