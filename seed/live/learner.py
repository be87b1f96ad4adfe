"""A process that makes a candidate beside the fast loop, as its parent has it. Nothing but `stop`
waits for the process or for what a disk has to write."""
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
from seed.live import real_time
from seed.live.learn import SLOW, Candidate, Plan, forget, has_begun, log_of
from seed.live.pace import Pace
from seed.storage.run_dir import Log

RETRY_S = 60.0            # after a learner that was stopped or failed
MAX_RETRY_S = 900.0       # after the last of many that did not run for as long as they had waited
STOP_S = 15.0             # that it has to save what it has learnt


def learner_command(live_dir: Path, kind: str, threads: int, plan: Plan) -> list[str]:
    return seed_command(str(live_dir), kind, json.dumps(plan._asdict()), f"--threads={threads}",
                        module="seed.live.learn")


class Learner:
    """Of one kind (learn.py); at most one process. It is due every so many ticks; 0: never."""

    def __init__(self, live_dir: Path, kind: str, every_ticks: int, threads: int, log: Log,
                 clock: Callable[[], float] = time.monotonic):
        self.live_dir, self.kind, self._every_ticks, self._threads = (
            live_dir, kind, every_ticks or math.inf, threads)
        self._log, self._clock = log, clock
        self._process: subprocess.Popen | None = None
        self._is_still = self._is_abandoned = False
        self._started_s = self._retry_s = self._retry_at_s = 0.0
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

    def start(self, plan: Plan, ticks: int) -> None:
        """Raises OSError."""
        self.next_ticks = self._next_if_finished = ticks + self._every_ticks
        self._started_s = self._clock()
        # Not a pipe: what it has started may hold that open after its end.
        self._output = open(os.memfd_create("candidate"), "r+b")
        mode = "ab" if has_begun(self.live_dir, self.kind) else "wb"
        try:
            with open(log_of(self.live_dir, self.kind), mode) as log:
                self._process = subprocess.Popen(
                    learner_command(self.live_dir, self.kind, self._threads, plan),
                    stdout=self._output, stderr=log, stdin=subprocess.DEVNULL,
                    start_new_session=True, preexec_fn=partial(die_with_parent, os.getpid()))
        except OSError:
            self._output.close()
            raise
        real_time.end_first(self._process.pid)

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
        code, was_asked, is_abandoned = (
            self._process.returncode, self.is_ending, self._is_abandoned)
        output = self._end()
        if is_abandoned:
            return None
        if was_asked:
            self.next_ticks = 0   # unless it has finished, it continues when it may
        try:
            fields = json.loads(output.decode().splitlines()[-1])
            candidate = Candidate(**{**fields, "figures": tuple(fields["figures"])})
        except (IndexError, KeyError, TypeError, ValueError):
            if not was_asked:
                self._log(f"the learner ended ({code}) without a candidate: see "
                          f"{log_of(self.live_dir, self.kind)}")
            self._wait_to_retry()
            return None
        if not candidate.is_finished:
            if candidate.reason:
                self._log(f"nothing is learnt now: {candidate.reason}")
            self._wait_to_retry()
            return None
        self.next_ticks, self._retry_s = self._next_if_finished, 0.0
        return candidate

    def _wait_to_retry(self) -> None:
        """Twice as long as before, if it did not even run for so long: where memory is short, or
        the robot rests for moments only, starting and saving is all that it would do."""
        now_s = self._clock()
        is_short = now_s - self._started_s <= self._retry_s
        self._retry_s = (min(MAX_RETRY_S, max(RETRY_S, 2 * self._retry_s)) if is_short
                         else RETRY_S)
        self._retry_at_s = now_s + self._retry_s

    def _signal(self, number: int) -> None:
        assert self._process
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def _end(self) -> bytes:
        """What it has printed."""
        if self._is_abandoned:
            forget(self.live_dir, self.kind)   # it may have begun in its last moment
        self._process, self._is_still, self._is_abandoned = None, False, False
        self._killed_at_s = math.inf
        with self._output as output:
            output.seek(0)
            return output.read()

    def ask_to_stop(self) -> None:
        """It saves what it has learnt, and continues when it is started again."""
        if self._process and not self.is_ending:
            self._killed_at_s = self._clock() + STOP_S
            self._signal(signal.SIGCONT)
            self._signal(signal.SIGTERM)

    def abandon(self, ticks: int) -> None:
        """What it learns of is of before tick `ticks`: it begins anew with what follows that."""
        if self._process:
            self._is_abandoned = True
            self._signal(signal.SIGKILL)
        forget(self.live_dir, self.kind)
        self.next_ticks = ticks + self._every_ticks

    def stop(self) -> None:
        """It has ended when this returns."""
        if self._process is None:
            return
        self.ask_to_stop()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            self._process.wait()
        self._end()
