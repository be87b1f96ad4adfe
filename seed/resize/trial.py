"""One size of the ladder, tried: a child process that really trains, saves and is examined.

The child is `seed train` itself, in a directory of its own; here it is only watched, from outside.
It is told to stop after its time, or killed when it takes more than the ceiling or stands still.
Whatever happens to it is what is found out, never a fault of the search.
"""
import ctypes
import errno
import hashlib
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import mean, median, pstdev
from typing import Any, NamedTuple

from seed import system_health
from seed.config import DistillConfig, GovernorConfig, Profile, to_toml
from seed.errors import ConfigError
from seed.errors import RETRY_LATER
from seed.governor import Cause
from seed.storage import metrics
from seed.storage.run_dir import RunDir

LOOK_S = 0.1         # between two looks at the child
FULL_MB = 1.0        # what is left of a disk that is full
HANG_S = 300.0       # without a step, a save or an examination
COOL_S = 900.0       # between two trials at the most
FEW = 20             # steps below which losses and gradients tell no trend
LONGER = 5.0         # times as long a trial may last until it tells trend and temperature
WINDOWS = 5          # parts of a trial, equal in time, whose speeds are compared
MARGIN_C = 2.0       # below the temperature from which a run is slowed
BOARD_S = 300.0      # time constant of a board with a heat sink, at the most
SETTLED_C = 1.0      # a temperature that changes by less over a trial has settled
PR_SET_PDEATHSIG = 1
NO_MEMORY = ("MemoryError", "Unable to allocate", "Cannot allocate memory",
             "died with <Signals.SIGKILL")
LEAST = (64, 4, 16, 128)
STOPPED = "it stopped itself: "
STILL = "it stood still"
NEEDS = "this run needs about"   # a run says so that is refused because of its memory


class Size(NamedTuple):
    d_model: int
    n_layers: int
    batch_size: int
    seq_len: int

    def of(self, profile: Profile) -> Profile:
        """The profile in this size; an MLP is twice as wide as the model."""
        model = replace(profile.model, d_model=self.d_model, n_layers=self.n_layers,
                        d_ff=2 * self.d_model)
        return replace(profile, model=model, train=replace(
            profile.train, batch_size=self.batch_size, seq_len=self.seq_len)).check()

    def __str__(self) -> str:
        return f"{self.d_model}x{self.n_layers}, {self.batch_size}x{self.seq_len}"


@dataclass(frozen=True)
class Trial:
    """What was found out about a size. None: not known."""
    size: Size
    base: str                   # which profile it is a size of
    threads: int
    seconds: float              # of training that it was given
    ceiling_mb: float           # over which it would have been killed
    ended: str                  # why it came to no end of its own; empty if it did
    peak_mb: float              # of the process tree
    steps: int
    step_s: float | None        # mean, saves included, examinations not
    jitter: float | None        # standard deviation over the mean of the speeds of its parts
    hottest_c: float | None
    settles_c: float | None     # where its temperature would end
    throttled: str              # what the firmware reported meanwhile, or the governor did
    swap_mb: float              # by which swap grew
    losses: tuple[float, float] | None   # mean of the first quarter of the steps, and of the last
    norm_growth: float | None   # median gradient norm of the last half over that of the first
    skipped: int                # steps that were not finite


def base_of(profile: Profile) -> str:
    """What tells profiles apart that differ in more than their size and their time."""
    width = profile.model.head_dim * math.ceil(LEAST[0] / profile.model.head_dim)
    own = Size(width, *LEAST[1:]).of(profile)
    own = replace(own, name="", governor=GovernorConfig(),
                  train=replace(own.train, minutes=0.0, steps=0))
    return hashlib.blake2b(to_toml(own).encode(), digest_size=8).hexdigest()


class Look(NamedTuple):
    """The child at one moment."""
    at_s: float                  # without what examinations have taken: the first compile
    steps: int
    rss_mb: float
    temp_c: float | None
    throttled: tuple[str, ...]   # by the firmware
    swap_mb: float = 0.0         # of the whole board


def cool_down(resume_c: float, asked: Callable[[], bool], wait_s: float = COOL_S) -> None:
    """Waits, but not for ever, until the board is cool: a hot size is not the next one's fault.

    Raises KeyboardInterrupt when the search is `asked` to stop.
    """
    until = time.monotonic() + wait_s
    while (system_health.temp_c() or -1e9) > resume_c and time.monotonic() < until:
        if asked():
            raise KeyboardInterrupt
        time.sleep(1)


def run(profile: Profile, size: Size, threads: int, seconds: float, ceiling_mb: float,
        run_dir: RunDir, hang_s: float = HANG_S,
        asked: Callable[[], bool] = lambda: False) -> Trial:
    """Tries a size of the profile for so many seconds of training, in a fresh run_dir.

    Raises ConfigError if the child refuses its input or cannot write: that says nothing of a size;
    KeyboardInterrupt when the search is `asked` to stop.
    """
    shutil.rmtree(run_dir.path, ignore_errors=True)
    run_dir.path.mkdir(parents=True)
    child = size.of(profile)
    child = replace(child, train=replace(child.train, steps=0, minutes=1e6,
                                         save_every_minutes=seconds / 240,
                                         eval_every_minutes=seconds / 120),
                    curriculum=replace(child.curriculum, holdout_items=1),
                    distill=DistillConfig(),   # what a parent says is read for minutes at first
                    governor=replace(child.governor, memory_mb=1e6)).check()
    run_dir.trial_profile.write_text(to_toml(child), encoding="utf-8")
    swap_before = system_health.swap_used_mb().value or 0.0
    with open(run_dir.trial_errors, "w+", encoding="utf-8") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "seed", "train", "--profile", str(run_dir.trial_profile),
             "--run-dir", str(run_dir), "--threads", str(threads), "--json"], stderr=errors,
            stdout=subprocess.DEVNULL, start_new_session=True,
            preexec_fn=partial(_die_with, os.getpid()),
            env={**os.environ, "CACHEDB": str(run_dir.kernel_cache().resolve())})  # all is compiled
        try:
            looks, told, ended = _watch(process, run_dir.metrics, ceiling_mb, seconds,
                                        hang_s, asked, child.governor.slow_c - MARGIN_C
                                        if child.governor.thermal else math.inf)
        finally:
            _kill(process)
        errors.seek(0)
        last = (errors.read().strip().splitlines() or [""])[-1]
    if not ended and process.returncode not in (0, RETRY_LATER):
        ended = _fault(process.returncode, last, run_dir)
    elif not ended and not told:
        if asked():   # whoever stops the search has stopped the child too, and it was faster
            raise KeyboardInterrupt
        ended = last.removeprefix("seed: ") if NEEDS in last else STOPPED + _governed(run_dir)
    free_mb = system_health.free_space(run_dir.path)[0].value
    if ended.startswith(STILL) and free_mb is not None and free_mb < FULL_MB:
        raise ConfigError(f"the trial in {run_dir} failed: {os.strerror(errno.ENOSPC)}")
    found = _found(looks, run_dir)
    shutil.rmtree(run_dir.path, ignore_errors=True)
    return Trial(size, base_of(profile), threads, seconds, ceiling_mb, ended, **found,
                 swap_mb=max([0.0, *(look.swap_mb - swap_before for look in looks)]))


def _die_with(parent: int) -> None:
    """Of the child: a search that is killed, be it before this, leaves nothing running behind."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def _kill(process: subprocess.Popen) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)   # its compilers too
    except ProcessLookupError:
        pass
    process.wait()


def _fault(code: int, last: str, run_dir: RunDir) -> str:
    """Why a child has failed. Raises ConfigError if that says nothing of its size."""
    if code < 0:
        name = signal.Signals(-code).name
        return f"killed by {name}" + (", as when memory is out" if name == "SIGKILL" else "")
    text = last.removeprefix("seed: ")
    if NEEDS in last:   # more than the board may ever give, not only now
        return f"it is refused: {text}"
    if "not finite" in last or any(part in last for part in NO_MEMORY):
        return text
    raise ConfigError(f"the trial in {run_dir} failed: {text or 'silently'}")


def _watch(process: subprocess.Popen, path: Path, ceiling_mb: float, seconds: float,
           hang_s: float, asked: Callable[[], bool],
           warm_c: float) -> tuple[list[Look], bool, str]:
    """Looks until the child ends, whether it was told to, and why it had to be killed if it was.

    It is told when it has trained for its time, counted from its first step and without
    examinations, was examined, has made enough steps to tell a trend and will not get as warm as
    `warm_c`; or has been given LONGER times that.
    """
    began, counted = time.monotonic(), _counted(path)
    looks: list[Look] = []
    first_s, moved_s, stepped_s, apart_s = 0.0, 0.0, 0.0, 0.0
    made, held, size, told = 0, 0, 0, False
    while process.poll() is None:
        if asked():
            raise KeyboardInterrupt
        time.sleep(LOOK_S)
        steps, exams, now_size = next(counted)
        rss = system_health.tree_mb(pid=process.pid)[0].value or 0.0
        now = time.monotonic() - began
        if exams > held:
            apart_s, held, stepped_s = apart_s + now - stepped_s, exams, now
        if steps > made:
            made, stepped_s = steps, now
        at_s = now - apart_s
        bits = tuple(name for name, on in system_health.throttled().now().items() if on)
        swap = system_health.swap_used_mb().value or 0.0   # what the child's end gives back, too
        looks.append(Look(at_s, steps, rss, system_health.temp_c(), bits, swap))
        first_s = first_s if steps else at_s
        if now_size != size:
            moved_s, size = now, now_size
        if _held(looks[-2:]) > ceiling_mb:
            return looks, told, f"it took more than {ceiling_mb:.0f} MB"
        if now - moved_s > hang_s:
            return looks, told, f"{STILL} for {now - moved_s:.0f} s"
        trained_s = at_s - first_s
        if not told and exams and trained_s >= seconds and (
                steps >= FEW and not may_reach(warm_c, _warmth(looks), trained_s)
                or trained_s >= LONGER * seconds):
            process.terminate()
            told = True
    return looks, told, ""


def _held(looks: Sequence[Look]) -> float:
    """What two looks agree on: a process that is just being forked is counted twice."""
    return min(look.rss_mb for look in looks) if len(looks) > 1 else 0.0


def _counted(path: Path) -> Iterator[tuple[int, int, int]]:
    """Steps and examinations in the metrics so far, and their bytes; only what is new is read."""
    steps, exams, size = 0, 0, 0
    while True:
        if path.exists():
            with open(path, "rb") as file:
                file.seek(size)
                data = file.read()
            data = data[:data.rfind(b"\n") + 1]
            steps += data.count(b'"kind": "step"')
            exams += data.count(b'"kind": "eval"') + data.count(b'"kind": "curriculum"')
            size += len(data)
        yield steps, exams, size


def _warmth(looks: Sequence[Look]) -> list[float]:
    """Temperatures at work: compiling heats less."""
    at_work = [look for look in looks if look.steps] or looks
    return [look.temp_c for look in at_work if look.temp_c is not None]


def may_reach(warm_c: float, temps: Sequence[float], seconds: float) -> bool:
    """Whether a temperature, seen for so long, may still get there: if it has not been there, and
    its end is that far away, or would be if it rose as now for BOARD_S."""
    if max(temps, default=warm_c) >= warm_c:
        return False
    n = max(1, len(temps) // 5)
    middle, end = mean(temps[2 * n:3 * n] or temps[:1]), mean(temps[-n:])
    rises = max(0.0, end - middle) / (0.4 * seconds)   # from the third fifth to the last
    return max(end + rises * BOARD_S, settles(temps) or 0.0) >= warm_c


def _governed(run_dir: RunDir) -> str:
    """What the governor did last, and why."""
    told = metrics.read(run_dir.metrics, "governor")
    return f"{told[-1]['action']}, {told[-1]['reason']}" if told else ""


def _found(looks: Sequence[Look], run_dir: RunDir) -> dict[str, Any]:
    rows: list[dict[str, Any]] = metrics.read(run_dir.metrics, "step")
    losses, norms = [row["loss"] for row in rows], [row["grad_norm"] for row in rows]
    quarter, half, tells = len(rows) // 4, len(rows) // 2, len(rows) >= FEW
    warm = _warmth(looks)
    reported = list(dict.fromkeys(name for look in looks for name in look.throttled))
    if any(row["action"] != "run" and row["cause"] != Cause.UNKNOWN_TEMPERATURE
           for row in metrics.read(run_dir.metrics, "governor")):
        reported.append(_governed(run_dir))
    step_s, jitter = speed(looks)
    return {
        "peak_mb": max((_held(looks[i:i + 2]) for i in range(len(looks))), default=0.0),
        "steps": len(rows), "step_s": step_s, "jitter": jitter,
        "hottest_c": max(warm, default=None), "settles_c": settles(warm),
        "throttled": "; ".join(reported),
        "losses": (mean(losses[:quarter]), mean(losses[-quarter:])) if tells else None,
        "norm_growth": median(norms[half:]) / max(median(norms[:half]), 1e-30) if tells else None,
        "skipped": len(metrics.read(run_dir.metrics, "skip"))}


def speed(looks: Sequence[Look]) -> tuple[float | None, float | None]:
    """Seconds a step, from the first to the last that was seen to end, and their jitter."""
    seen = [look for before, look in zip(looks, looks[1:]) if look.steps > before.steps]
    if len(seen) < 2:
        return None, None
    first, last = seen[0], seen[-1]
    span, made = last.at_s - first.at_s, last.steps - first.steps
    if made < 2 * WINDOWS:
        return span / made, None
    bounds = [first.at_s + i * span / WINDOWS for i in range(WINDOWS + 1)]
    steps = [max(look.steps for look in seen if look.at_s <= bound + 1e-9) for bound in bounds]
    parts = [after - before for before, after in zip(steps, steps[1:])]
    return span / made, pstdev(parts) / mean(parts)


def settles(temps: Sequence[float]) -> float | None:
    """Where a temperature ends that nears its end by the same share in the same time.

    From the means of the first, middle and last fifth (Aitken 1926). One that does not slow down is
    taken on by ten times its last rise.
    """
    if len(temps) < 5:
        return max(temps, default=None)
    n = len(temps) // 5
    start, middle, end = (mean(temps[i:i + n]) for i in (0, 2 * n, len(temps) - n))
    if end - start < SETTLED_C:
        return max(end, middle)
    rise, later = middle - start, end - middle
    if later <= 0:
        return max(end, middle)
    share = later / rise if rise > later else 1.0
    return end + later * (share / (1 - share) if share < 10 / 11 else 10.0)
