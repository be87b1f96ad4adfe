"""Runs contenders as processes that take turns in one run, and reports ratios of their times.

The time from start to third step is measured twice: with an empty kernel cache and with a full one.
"""
import contextlib
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seed.errors import BenchError
from seed.interpreter import seed_command

STEPS_PER_TURN = 6
PAUSE_S = 0.2      # between turns, so that a peer's threads have stopped spinning
WIDTHS = (64, 128, 256)
PEERS = ("torch eager", "torch compile", "mamba2 eager", "mamba2 compile")
MAX_LOSS_DIFFERENCE = 1e-4   # relative, of the first loss with the same architecture and weights


@dataclass
class Contender:
    """One worker process and its measurements."""
    name: str
    arguments: list[str]
    cache: Path
    cold_s: float = 0.0
    warm_s: float = 0.0
    loss: float = 0.0
    peak_rss_mb: float = 0.0
    turns: list[float] = field(default_factory=list)   # median seconds of a step, per turn

    def start(self) -> float:
        """Starts the worker; returns seconds from start to third step."""
        env = {**os.environ, "XDG_CACHE_HOME": str(self.cache),
               "TORCHINDUCTOR_CACHE_DIR": str(self.cache / "inductor"),
               "OPENBLAS_NUM_THREADS": self.arguments[2]}
        started = time.time()
        self.process: Any = subprocess.Popen(
            seed_command(*self.arguments, module="seed.bench.worker"), env=env, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        ready = self.answer()
        self.loss = ready["loss"]
        return ready["third_step_at"] - started

    def answer(self) -> Any:
        """The worker's next line. Raises BenchError if it has ended."""
        line = self.process.stdout.readline()
        if not line:
            errors = self.process.stderr.read().strip().splitlines()
            raise BenchError(f"{self.name} did not run: {errors[-1] if errors else 'no message'}")
        return json.loads(line)

    def turn(self) -> None:
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

    def kill(self) -> None:
        with self.process:   # closes its pipes and waits for it
            self.process.kill()


def measure(names: Sequence[str], profile: str, overrides: Sequence[str], threads: int,
            turns: int) -> dict[str, Contender]:
    """Cold start, warm start, then `turns` rounds in which every contender has its turn."""
    contenders: dict[str, Contender] = {}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as running:
        for i, name in enumerate(names):
            cache = Path(folder) / str(i)
            cache.mkdir()
            contender = Contender(name, [name, profile, str(threads), *overrides], cache)
            running.callback(contender.kill)
            contender.cold_s = contender.start()
            contender.stop()
            contender.warm_s = contender.start()
            contenders[name] = contender
        for _ in range(turns):
            for contender in contenders.values():
                contender.turn()
        for contender in contenders.values():
            contender.stop()
    return contenders


def ratios(contender: Contender, base: Contender, name: str) -> dict[str, float]:
    """Median, least and greatest ratio of the contender's time to base's, turn by turn."""
    paired = [a / b for a, b in zip(contender.turns, base.turns, strict=True)]
    return {name: statistics.median(paired), f"{name}_min": min(paired), f"{name}_max": max(paired)}


def bench(profile: str, overrides: Sequence[str], threads: int, peers: bool, turns: int) -> dict:
    """All figures. Raises BenchError if a contender ends, or starts at another loss than seed."""
    contenders = measure(["seed", *(PEERS if peers else ())], profile, overrides, threads, turns)
    seed = contenders["seed"]
    rows, shares = [], []
    for name, c in contenders.items():
        if name.startswith("torch") and abs(c.loss - seed.loss) > MAX_LOSS_DIFFERENCE * seed.loss:
            raise BenchError(f"{name} starts at loss {c.loss}, seed at {seed.loss}: they do not "
                             f"compute the same")
        rows.append({"name": name, "step_ms": c.step_ms, **ratios(c, seed, "ratio"),
                     "cold_s": c.cold_s, "warm_s": c.warm_s, "peak_rss_mb": c.peak_rss_mb})
    for d in WIDTHS:
        widths = [*overrides, f"model.d_model={d}", f"model.d_ff={2 * d}"]
        pair = measure(["seed", "matmul"], profile, widths, threads, turns)
        shares.append({"d_model": d, **ratios(pair["matmul"], pair["seed"], "share"),
                       "step_ms": pair["seed"].step_ms})
    return {"threads": threads, "contenders": rows, "matmul_share": shares}


def table(report: dict) -> str:
    lines = [f"{'':<16}{'step ms':>9}{'x seed':>8}{'least - most':>15}{'cold s':>9}{'warm s':>8}"
             f"{'peak MB':>9}"]
    for c in report["contenders"]:
        span = f"{c['ratio_min']:.2f} - {c['ratio_max']:.2f}"
        lines.append(f"{c['name']:<16}{c['step_ms']:>9.1f}{c['ratio']:>8.2f}{span:>15}"
                     f"{c['cold_s']:>9.1f}{c['warm_s']:>8.1f}{c['peak_rss_mb']:>9.0f}")
    lines.append("\nshare of OpenBLAS: its time for the step's weight products alone / our step")
    lines += [f"d_model {s['d_model']:>4}  {100 * s['share']:>5.1f} %  "
              f"({100 * s['share_min']:.1f} - {100 * s['share_max']:.1f})  step "
              f"{s['step_ms']:.1f} ms" for s in report["matmul_share"]]
    return "\n".join(lines)
