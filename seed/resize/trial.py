"""A trial of one size: a child process trains, saves and evaluates at that size for some seconds.

The child is `seed train` in a directory of its own. It is asked to stop after its time, and killed
if it exceeds the memory limit or makes no progress. However it ends, that is the outcome of the
trial; only refused input and a full disk end the search.
"""
import errno
import hashlib
import math
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from seed import system_health
from seed.config import DistillConfig, GovernorConfig, Profile
from seed.errors import FAILED, RETRY_LATER, ConfigError, NotEnoughMemory
from seed.interpreter import die_with_parent, seed_command
from seed.profile_file import to_toml
from seed.storage import metrics_reader
from seed.storage.run_dir import RunDir
from seed.resize.trial_watch import Ending, Outcome, last_action, measurements, watch
from seed.training.memory_estimate import check_fits
from seed.training.throttle import POLL_EVERY_S, Throttle

HANG_TIMEOUT_S = 300.0    # without a line of metrics
MAX_COOL_DOWN_S = 900.0   # between two trials
MIN_FREE_DISK_MB = 1.0    # below it a disk counts as full
HEAT_MARGIN_C = 2.0       # below the temperature at which the governor slows a run
# In the last line of Python, numpy, libc or a killed compiler that ran out of memory.
OUT_OF_MEMORY_TEXTS = ("MemoryError", "Unable to allocate", "Cannot allocate memory",
                       "died with <Signals.SIGKILL")


class Size(NamedTuple):
    d_model: int
    n_layers: int
    batch_size: int
    seq_len: int

    @classmethod
    def of(cls, profile: Profile) -> "Size":
        return cls(profile.model.d_model, profile.model.n_layers, profile.train.batch_size,
                   profile.train.seq_len)

    def apply_to(self, profile: Profile) -> Profile:
        """The profile in this size; an MLP is twice as wide as the model."""
        model = replace(profile.model, d_model=self.d_model, n_layers=self.n_layers,
                        d_ff=2 * self.d_model)
        return replace(profile, model=model, train=replace(
            profile.train, batch_size=self.batch_size, seq_len=self.seq_len)).check()

    def __str__(self) -> str:
        return f"{self.d_model}x{self.n_layers}, {self.batch_size}x{self.seq_len}"


MIN_SIZE = Size(64, 4, 16, 128)


@dataclass(frozen=True)
class Trial:
    """What a trial of a size has measured. None: unknown."""
    size: Size
    profile_hash: str              # of all that the size does not determine
    threads: int
    seconds: float                 # of training it was given
    memory_limit_mb: float         # above which it would have been killed
    outcome: Outcome
    message: str = ""              # why it did not finish
    peak_mb: float = 0.0           # of the process tree
    steps: int = 0
    step_s: float | None = None    # mean, with saves and without evaluations
    jitter: float | None = None    # standard deviation / mean of the speeds of its windows
    max_temp_c: float | None = None
    settled_temp_c: float | None = None    # where the temperature would settle
    throttled: str = ""            # by the firmware or the governor, as they report it
    swap_mb: float = 0.0           # growth of the board's swap
    first_loss: float | None = None        # mean of the first quarter of steps
    last_loss: float | None = None         # mean of the last quarter
    grad_norm_growth: float | None = None  # median of the last half / median of the first
    skipped_steps: int = 0         # because loss or gradient was not finite

    @property
    def finished(self) -> bool:
        return self.outcome is Outcome.FINISHED

    @classmethod
    def from_dict(cls, row: dict[str, Any]) -> "Trial":
        """The trial of a log line. Raises ValueError, TypeError or KeyError if it is damaged."""
        trial = cls(**{**row, "size": Size(*row["size"]), "outcome": Outcome(row["outcome"])})
        for field in fields(cls):
            value: Any = getattr(trial, field.name)
            kind: Any = field.type
            if not isinstance(value, kind) and not (type(value) is int and kind is not str):
                raise ValueError(f"{field.name} is {value!r}")
        if not all(type(number) is int for number in trial.size):
            raise ValueError(f"size is {trial.size}")
        return trial


def profile_hash(profile: Profile) -> str:
    """A hash of all settings that influence a trial, but for the size and the run's length."""
    width = profile.model.head_dim * math.ceil(MIN_SIZE.d_model / profile.model.head_dim)
    rest = MIN_SIZE._replace(d_model=width).apply_to(profile)
    rest = replace(rest, name="", governor=GovernorConfig(),
                   train=replace(rest.train, minutes=0.0, steps=0))
    return hashlib.blake2b(to_toml(rest).encode(), digest_size=8).hexdigest()


def cool_down(resume_c: float, should_stop_fn: Callable[[], bool],
              max_s: float = MAX_COOL_DOWN_S) -> None:
    """Waits until the board is cool, so that no size inherits the heat of the last one.

    Raises KeyboardInterrupt once `should_stop_fn` returns true.
    """
    until = time.monotonic() + max_s
    while (system_health.temp_c() or -math.inf) > resume_c and time.monotonic() < until:
        if should_stop_fn():
            raise KeyboardInterrupt
        time.sleep(min(1.0, max_s))


def wait_for_robot(config: GovernorConfig, should_stop_fn: Callable[[], bool]) -> None:
    """Waits until the robot's report lets a trial run: a trial itself is not interrupted by it.

    Raises KeyboardInterrupt once `should_stop_fn` returns true.
    """
    patient = replace(config, thermal=False, memory_mb=1e6, min_available_mb=0.0)
    throttle = Throttle(patient, lambda: system_health.read(Path(".")),
                        time.monotonic, time.sleep, should_stop_fn)
    try:
        while throttle.wait_while_paused():
            if should_stop_fn():
                raise KeyboardInterrupt
            throttle.sleep(POLL_EVERY_S)
    finally:
        throttle.close()


def run_trial(profile: Profile, size: Size, threads: int, seconds: float, memory_limit_mb: float,
              run_dir: RunDir, hang_timeout_s: float = HANG_TIMEOUT_S,
              should_stop_fn: Callable[[], bool] = lambda: False) -> Trial:
    """Trains a size of the profile for some seconds, in a run directory that is emptied first.

    Raises ConfigError if the child refuses its input or the disk is full, which says nothing of the
    size; KeyboardInterrupt once `should_stop_fn` returns true.
    """
    child = _child_profile(profile, size, seconds)
    result = partial(Trial, size, profile_hash(profile), threads, seconds, memory_limit_mb)
    try:
        check_fits(child, threads, system_health.read(run_dir.path.parent))
    except NotEnoughMemory as error:
        return result(Outcome.NOT_ENOUGH_MEMORY_NOW, str(error))
    except ConfigError as error:
        return result(Outcome.OUT_OF_MEMORY, f"training is refused: {error}")
    shutil.rmtree(run_dir.path, ignore_errors=True)
    run_dir.path.mkdir(parents=True)
    run_dir.trial_profile.write_text(to_toml(child), encoding="utf-8")
    swap_before_mb = system_health.swap_used_mb().value or 0.0
    with open(run_dir.trial_errors, "w+", encoding="utf-8") as errors:
        process = subprocess.Popen(
            train_command(run_dir, threads), stderr=errors, stdout=subprocess.DEVNULL,
            start_new_session=True, preexec_fn=partial(die_with_parent, os.getpid()),
            env={**os.environ, **_cold_cache(run_dir)})
        max_temp_c = child.governor.slow_c - HEAT_MARGIN_C if child.governor.thermal else math.inf
        try:
            ending, asked_to_stop, samples = watch(
                process, run_dir.metrics, memory_limit_mb, seconds, hang_timeout_s, max_temp_c,
                should_stop_fn)
        finally:
            _kill_group(process)
        errors.seek(0)
        last_line = (errors.read().strip().splitlines() or [""])[-1].removeprefix("seed: ")
    free_mb = system_health.free_space(run_dir.path)[0].value
    if ending is None:
        if not asked_to_stop and should_stop_fn():
            raise KeyboardInterrupt   # the same signal has stopped the child too, and faster
        ending = _ending(process.returncode, asked_to_stop, last_line, run_dir)
    elif ending.outcome is Outcome.HUNG and free_mb is not None and free_mb < MIN_FREE_DISK_MB:
        raise ConfigError(f"the trial in {run_dir} failed: {os.strerror(errno.ENOSPC)}")
    swap_mb = max([0.0, *(sample.swap_mb - swap_before_mb for sample in samples)])
    trial = result(*ending, **measurements(samples, run_dir.metrics), swap_mb=swap_mb)
    shutil.rmtree(run_dir.path, ignore_errors=True)
    return trial


def _cold_cache(run_dir: RunDir) -> dict[str, str]:
    """Compiling is part of what is measured."""
    return {"XDG_CACHE_HOME": str(run_dir.path.resolve())}


def _child_profile(profile: Profile, size: Size, seconds: float) -> Profile:
    """Trains until it is stopped; saves and evaluates so often that they are measured too."""
    child = size.apply_to(profile)
    train = replace(child.train, steps=0, minutes=1e6, save_every_minutes=seconds / 240,
                    eval_every_minutes=seconds / 120)
    return replace(child, train=train, curriculum=replace(child.curriculum, holdout_items=1),
                   distill=DistillConfig(),   # reading a parent takes minutes before the first step
                   governor=replace(child.governor.without_report(), memory_mb=1e6)).check()


def train_command(run_dir: RunDir, threads: int) -> list[str]:
    """Starts the child; tests replace it by a cheaper one."""
    return seed_command("train", "--profile", str(run_dir.trial_profile), "--run-dir", str(run_dir),
                        "--threads", str(threads), "--json")


def _kill_group(process: subprocess.Popen) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)   # its compilers too
    process.wait()


def _ending(code: int, asked_to_stop: bool, last_line: str, run_dir: RunDir) -> Ending:
    """How a child ended that was not killed by the search.

    Raises ConfigError if that says nothing of its size.
    """
    is_too_large = any(text in last_line for text in OUT_OF_MEMORY_TEXTS)
    if code in (0, RETRY_LATER):
        if asked_to_stop:
            return Ending(Outcome.FINISHED)
        action = last_action(run_dir.metrics)
        if is_too_large and not action:
            return Ending(Outcome.OUT_OF_MEMORY, last_line)
        if code == RETRY_LATER and not action:
            return Ending(Outcome.NOT_ENOUGH_MEMORY_NOW, last_line)
        return Ending(Outcome.STOPPED, f"training stopped itself: {action or 'no reason given'}")
    if code < 0:
        name = signal.Signals(-code).name
        hint = " (the kernel does so when memory runs out)" if -code == signal.SIGKILL else ""
        return Ending(Outcome.KILLED, f"killed by {name}{hint}")
    last_step, last_skip = (max((row["step"] for row in metrics_reader.read(run_dir.metrics, kind)),
                                default=0) for kind in ("step", "skip"))
    if code == FAILED and last_skip > last_step:
        return Ending(Outcome.DIVERGED, last_line)
    if is_too_large:
        return Ending(Outcome.OUT_OF_MEMORY, last_line)
    raise ConfigError(f"the trial in {run_dir} failed: {last_line or 'it printed no reason'}")
