"""The process that makes a candidate beside the fast loop, as its parent has it."""
import json
import math
import os
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from seed.interpreter import die_with_parent, seed_command
from seed.live.fast_loop import EPISODES
from seed.live.learn import PLAN, Candidate, prepare, work_of
from seed.storage.run_dir import Log, RunDir

MAX_LATE = 0.002          # of the deadlines since the last look: then the learner stands still
STILL_S = 2.0             # at least, after the last late tick
RETRY_S = 60.0            # after a learner that failed


@dataclass(frozen=True)
class LiveOptions:
    run_dir: RunDir
    body: str
    learn_every_ticks: int = 6000    # that are new since the last candidate; 0: never
    learn_minutes: float = 2.0
    loop: dict[str, Any] = field(default_factory=dict)   # other fields of fast_loop.Options

    @property
    def live_dir(self) -> Path:
        return self.run_dir.path / "live"


def learner_command(options: LiveOptions) -> list[str]:
    return seed_command(str(options.live_dir), f"--minutes={options.learn_minutes}",
                        module="seed.live.learn")


class Learner:
    """The process that makes a candidate; at most one."""

    def __init__(self, options: LiveOptions, log: Log):
        self._options, self._log = options, log
        self._process: subprocess.Popen | None = None
        self._is_still, self._still_until_s, self._retry_at_s = False, 0.0, 0.0
        self.next_ticks = float(options.learn_every_ticks or math.inf)

    @property
    def is_running(self) -> bool:
        return self._process is not None

    def is_due(self, ticks: int, now_s: float) -> bool:
        return not self.is_running and now_s >= self._retry_at_s and ticks >= self.next_ticks

    def start(self, parent: str, ticks: int, newest: int) -> None:
        """Learns of the `newest` ticks. Raises OSError, ConfigError: there is nothing yet."""
        options = self._options
        self.next_ticks = ticks + options.learn_every_ticks
        prepare(options.live_dir, parent, options.live_dir / EPISODES, newest)
        self._output = open(work_of(options.live_dir).path / "learner.log", "ab")
        self._process = subprocess.Popen(
            learner_command(options), stdout=subprocess.PIPE, stderr=self._output,
            stdin=subprocess.DEVNULL, start_new_session=True,
            preexec_fn=partial(die_with_parent, os.getpid()))

    def yield_to(self, late_fraction: float, now_s: float) -> None:
        """Stands still while the fast loop is late."""
        if late_fraction > MAX_LATE:
            self._still_until_s = now_s + STILL_S
        is_still = now_s < self._still_until_s
        if self._process and is_still != self._is_still:
            self._signal(signal.SIGSTOP if is_still else signal.SIGCONT)
            self._is_still = is_still

    def result(self, now_s: float) -> Candidate | None:
        """Once, when it has ended."""
        if self._process is None or self._process.poll() is None:
            return None
        code, (output, _) = self._process.returncode, self._process.communicate()
        self._end()
        try:
            fields = json.loads(output.decode().splitlines()[-1])
            candidate = Candidate(**{**fields, "figures": tuple(fields["figures"])})
        except (IndexError, KeyError, TypeError, ValueError):
            self._retry_at_s = now_s + RETRY_S
            self._log(f"the learner ended ({code}) without a candidate: see "
                      f"{work_of(self._options.live_dir).path / 'learner.log'}")
            return None
        return candidate if candidate.is_finished else None

    def _signal(self, number: int) -> None:
        assert self._process
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def _end(self) -> None:
        self._process, self._is_still = None, False
        self._output.close()

    def abandon(self, ticks: int) -> None:
        """What it learns of is of before tick `ticks`: it begins anew with what comes after it."""
        self.stop()
        work_of(self._options.live_dir).path.joinpath(PLAN).unlink(missing_ok=True)
        self.next_ticks = ticks + float(self._options.learn_every_ticks or math.inf)

    def stop(self) -> None:
        """It saves what it has learnt, and continues when it is started again."""
        if self._process is None:
            return
        self._signal(signal.SIGCONT)
        self._signal(signal.SIGTERM)
        try:
            self._process.communicate(timeout=15)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            self._process.communicate()
        self._end()
