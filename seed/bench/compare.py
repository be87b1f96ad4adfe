"""Runs contenders as processes that take turns in one run, and reports ratios of their times.

The time from start to third step is measured twice: with an empty kernel cache before the turns,
and with a full one after them, unless the time is over by then.
"""
import contextlib
import json
import os
import selectors
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from seed.bench.turns import Ratio, paired, take_turns
from seed.errors import BenchError
from seed.interpreter import die_with_parent, seed_command

STEPS_PER_TURN = 6
PAUSE_S = 0.2      # between turns, so that a peer's threads have stopped spinning
WIDTHS = (64, 128, 256)
PEERS = {"torch": ("torch eager", "torch compile", "mamba2 eager", "mamba2 compile"),
         "mlx": ("mlx",), "tinygrad": ("tinygrad",)}
SAME_MODEL = ("torch eager", "torch compile", "mlx", "tinygrad")   # and the same weights
MAX_LOSS_DIFFERENCE = 1e-4   # relative, of the first loss with the same architecture and weights


def environment(cache: Path, threads: int | str) -> dict[str, str]:
    """Of a worker that keeps what it compiles in `cache`."""
    return {**os.environ, "XDG_CACHE_HOME": str(cache),
            "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor"),
            "OPENBLAS_NUM_THREADS": str(threads)}


@dataclass
class Contender:
    """One worker process and its measurements."""
    name: str
    arguments: list[str]
    cache: Path
    ends_s: float = float("inf")   # of the monotonic clock: when it has to have answered
    cold_s: float = 0.0
    warm_s: float | None = None
    loss: float = 0.0
    peak_rss_mb: float = 0.0
    turns: list[float] = field(default_factory=list)   # median seconds of a step, per turn
    process: Any = None
    errors: Any = None   # a file: a pipe that nobody reads fills up, and its writer waits

    def start(self) -> float:
        """Starts the worker; returns seconds from start to third step."""
        env = environment(self.cache, self.arguments[2])
        started = time.time()
        self.errors = tempfile.TemporaryFile("w+", errors="replace")
        self.process = subprocess.Popen(
            seed_command(*self.arguments, module="seed.bench.worker"), env=env, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors,
            # A signal may come before this process knows the one that it has started.
            preexec_fn=partial(die_with_parent, os.getpid()))
        ready = self.answer()
        self.loss = ready["loss"]
        return ready["third_step_at"] - started

    def answer(self) -> Any:
        """The worker's next line. Raises BenchError if it has ended, or the time is over."""
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            rest_s = None if self.ends_s == float("inf") else self.ends_s - time.monotonic()
            if not selector.select(None if rest_s is None else max(rest_s, 0.001)):
                raise BenchError(f"{self.name} takes longer than --minutes allows: give more, or "
                                 f"a smaller --profile")
        line = self.process.stdout.readline()
        if not line:
            code = self.process.wait()
            self.errors.seek(0)
            errors = self.errors.read().strip().splitlines()
            reason = errors[-1] if errors else ending(code)
            raise BenchError(f"{self.name} did not run: {reason}")
        return json.loads(line)

    def turn(self) -> None:
        with contextlib.suppress(BrokenPipeError):   # it has ended: its answer tells why
            print(STEPS_PER_TURN, file=self.process.stdin, flush=True)
        self.turns.append(statistics.median(self.answer()))
        time.sleep(PAUSE_S)

    def stop(self) -> None:
        self.process.stdin.close()
        self.peak_rss_mb = max(self.peak_rss_mb, self.answer()["peak_rss_mb"])
        self.kill()

    @property
    def step_ms(self) -> float:
        return 1e3 * statistics.median(self.turns)

    def ratio(self, base: "Contender") -> Ratio:
        return paired(self.turns, base.turns)

    def kill(self) -> None:
        if self.process:
            with contextlib.suppress(BrokenPipeError), self.process:   # closes its pipes and waits
                self.process.kill()
        if self.errors:
            self.errors.close()


def ending(code: int) -> str:
    """How a process ended that has said nothing."""
    return f"it was killed ({signal.strsignal(-code)})" if code < 0 else f"exit code {code}"


def measure(names: Sequence[str], profile: str, overrides: Sequence[str], threads: int,
            turns: int, minutes: float = float("inf"),
            ready_s: float = float("inf")) -> dict[str, Contender]:
    """Cold starts, rounds of turns until the time is over (take_turns), warm starts; those that
    come later are left out. Raises BenchError if a contender has not started by `ready_s` of the
    monotonic clock."""
    contenders, ends_s = dict[str, Contender](), time.monotonic() + 60 * minutes
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as running:
        for i, name in enumerate(names):
            cache = Path(folder) / str(i)
            cache.mkdir()
            contender = Contender(name, [name, profile, str(threads), *overrides], cache,
                                  ready_s)
            running.callback(contender.kill)
            contender.cold_s = contender.start()
            contenders[name] = contender
        for contender in contenders.values():
            contender.ends_s = float("inf")
        take_turns(contenders.values(), turns, ends_s)
        for contender in contenders.values():
            contender.stop()
        for contender in contenders.values():
            if time.monotonic() < ends_s:
                contender.warm_s = contender.start()
                contender.stop()
    return contenders


def check(contenders: Sequence[Contender], seed: Contender) -> None:
    """Raises BenchError if one of the same model starts at another loss."""
    for c in contenders:
        if c.name in SAME_MODEL and abs(c.loss - seed.loss) > MAX_LOSS_DIFFERENCE * seed.loss:
            raise BenchError(f"{c.name} starts at loss {c.loss}, seed at {seed.loss}: they do not "
                             f"compute the same")


def bench(profile: str, overrides: Sequence[str], threads: int, peer: str, turns: int,
          minutes: float) -> dict[str, Any]:
    """All figures; beside the peers of a library, if one is named, else beside its own matrix
    products alone by OpenBLAS, at some widths. Raises BenchError."""
    ready_s = time.monotonic() + (30 if peer else 60) * minutes   # a peer leaves half for turns
    contenders = measure(["seed", *PEERS.get(peer, ())], profile, overrides, threads, turns,
                         minutes if peer else minutes / 2, ready_s)
    seed = contenders["seed"]
    check([*contenders.values()], seed)
    rows = [{"name": name, "step_ms": c.step_ms, "turns": len(c.turns), **_ratio(c, seed, "ratio"),
             "cold_s": c.cold_s, "warm_s": c.warm_s, "peak_rss_mb": c.peak_rss_mb}
            for name, c in contenders.items()]
    return {"profile": profile, "threads": threads, "contenders": rows,
            "matmul_share": [] if peer else [
                _share(d, profile, overrides, threads, turns, minutes / 2 / len(WIDTHS), ready_s)
                for d in WIDTHS]}


def _share(d_model: int, profile: str, overrides: Sequence[str], threads: int, turns: int,
           minutes: float, ready_s: float) -> dict[str, Any]:
    widths = [*overrides, f"model.d_model={d_model}", f"model.d_ff={2 * d_model}"]
    pair = measure(["seed", "matmul"], profile, widths, threads, turns, minutes, ready_s)
    return {"d_model": d_model, **_ratio(pair["matmul"], pair["seed"], "share"),
            "step_ms": pair["seed"].step_ms}


def _ratio(contender: Contender, base: Contender, name: str) -> dict[str, float]:
    ratio = contender.ratio(base)
    return {name: ratio.median, f"{name}_min": ratio.least, f"{name}_max": ratio.greatest}


def table(report: dict) -> str:
    lines = [f"profile {report['profile']}, threads: {report['threads']}, turns: "
             f"{report['contenders'][0]['turns']}",
             f"{'':<16}{'step ms':>9}{'x seed':>8}{'least - most':>15}{'cold s':>9}{'warm s':>8}"
             f"{'peak MB':>9}"]
    for c in report["contenders"]:
        span = f"{c['ratio_min']:.2f} - {c['ratio_max']:.2f}"
        lines.append(f"{c['name']:<16}{c['step_ms']:>9.1f}{c['ratio']:>8.2f}{span:>15}"
                     f"{c['cold_s']:>9.1f}{_seconds(c['warm_s']):>8}{c['peak_rss_mb']:>9.0f}")
    if report["matmul_share"]:
        lines += ["", "share of OpenBLAS: its time for the step's weight products alone / our step"]
    lines += [f"d_model {s['d_model']:>4}  {100 * s['share']:>5.1f} %  "
              f"({100 * s['share_min']:.1f} - {100 * s['share_max']:.1f})  step "
              f"{s['step_ms']:.1f} ms" for s in report["matmul_share"]]
    return "\n".join(lines)


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
