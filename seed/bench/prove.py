"""Proves on this board what the trainer does: trains for an hour, then lives with the built-in
cart-pole, and writes what was measured as Markdown and JSON, made to be posted.

    bin/prove.sh [--minutes 60] [--live-minutes 10] [--run-dir runs/proof]

It runs the commands of a user, `seed train` and `seed live`, and looks at the sensors each second.
A signal ends it with a proof of what there is, which says so; the same command continues then. The
proof names neither the host, nor its user, nor folders.
"""
import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

from seed import system_health
from seed.bench import proof
from seed.bench.board_samples import BoardSamples
from seed.errors import (BAD_INPUT, INTERRUPTED, ConfigError, NotEnoughMemory, SeedError,
                         os_error_code)
from seed.interpreter import die_with_parent, seed_command
from seed.live import real_time
from seed.live.shared_block import Block
from seed.storage import RunDir, atomic_file
from seed.training.stop_signals import StopSignals, watched

PROFILE, BODY, CURRICULUM_STEPS = "seed", "cartpole", 20
MIN_DISK_MB, MIN_AVAILABLE_MB = 1000, 1000   # of an hour's files and more; of training and learner
SAMPLE_S = 1.0
MAX_STOP_S = 120.0        # for a child to save
MAX_MINUTES = 100_000.0


def check_room(folder: Path) -> None:
    """Raises NotEnoughMemory, ConfigError if there is too little of disk or memory to begin; what
    is unknown is no reason."""
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents)
                    if path.exists())
    health = system_health.read(existing)
    disk_mb, memory_mb = health.disk_free_mb.value, health.mem_available_mb.value
    if disk_mb is not None and disk_mb < MIN_DISK_MB:
        raise ConfigError(f"{disk_mb:,.0f} MB of the disk of {folder} are free: the proof needs "
                          f"{MIN_DISK_MB:,}; free some, or name another disk with --run-dir")
    if memory_mb is not None and memory_mb < MIN_AVAILABLE_MB:
        raise NotEnoughMemory(f"{memory_mb:,.0f} MB of memory are free: the proof needs "
                              f"{MIN_AVAILABLE_MB:,}; end other programs")


class Phase:
    """A command of seed as a child, until it ends or a signal asks it to."""

    def __init__(self, arguments: list[str], run_dir: RunDir, signals: StopSignals):
        self.run_dir, self.signals = run_dir, signals
        self.samples, self.code, self.seconds = BoardSamples(), 0, 0.0
        self.arguments = arguments

    def run(self) -> None:
        self.began_ns = time.monotonic_ns()
        self.process = subprocess.Popen(
            seed_command(*self.arguments), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            start_new_session=True, preexec_fn=partial(die_with_parent, os.getpid()))
        self.begin()
        while self.process.poll() is None and not self.signals.stop.wait(SAMPLE_S):
            self.look()
        self.code = self._end()
        self.seconds = (time.monotonic_ns() - self.began_ns) / 1e9

    def begin(self) -> None:
        """Once it has been started."""

    def look(self) -> None:
        """Each second."""
        tree_mb = system_health.tree_mb(pid=self.process.pid)[0]
        self.samples.add(system_health.read(self.run_dir.path), tree_mb)

    def _end(self) -> int:
        """Its exit code; it saves if it has to end."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(MAX_STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def facts(self) -> dict[str, Any]:
        return {"seconds": round(self.seconds, 1), "exit_code": self.code,
                "board": self.samples.facts()}


class Training(Phase):
    def __init__(self, run_dir: RunDir, signals: StopSignals, minutes: float, threads: int):
        super().__init__(["train", "--profile", PROFILE, "--body", BODY, "--set",
                          f"body.curriculum_steps={CURRICULUM_STEPS}", "--minutes", str(minutes),
                          "--threads", str(threads), "--run-dir", str(run_dir)], run_dir, signals)
        self._status = proof.StatusSamples(run_dir)

    def look(self) -> None:
        super().look()
        self._status.add()

    @property
    def is_finished(self) -> bool:
        self._status.add()
        return self._status.last.get("state") == "finished" and not self.code

    def facts(self) -> dict[str, Any]:
        return {**super().facts(), **self._status.facts(), **proof.training_facts(self.run_dir)}


class Living(Phase):
    def __init__(self, run_dir: RunDir, signals: StopSignals, minutes: float):
        super().__init__(["live", "--body", BODY, "--minutes", str(minutes), "--run-dir",
                          str(run_dir)], run_dir, signals)
        self._block: Block | None = None
        self._loop: dict[str, Any] = {"is_real_time": None, "memory_is_locked": None}

    def begin(self) -> None:
        # This process stays off the core of the fast loop, as whatever is beside it.
        real_time.pin(real_time.other_cores(real_time.fast_cores()[0]))

    def look(self) -> None:
        super().look()
        if self._block is None:
            with contextlib.suppress(ConfigError):   # it is exported first, which takes a while
                block = Block.open(self.run_dir.path / "live")
                if block["started_ns"] > self.began_ns:   # else that of a life that was killed
                    self._block = block
        elif self._loop["is_real_time"] is None:
            self._loop = proof.real_time_facts(int(self._block["pid"]))

    def facts(self) -> dict[str, Any]:
        """The block's memory is there as long as this process has it open."""
        return {**super().facts(), **self._loop,
                **proof.live_facts(self.run_dir.path / "live", self._block)}


def prove(args: argparse.Namespace, signals: StopSignals) -> int:
    """The exit code. Raises SeedError, OSError."""
    signals.safe.clear()   # what ends late would have no proof
    run_dir = RunDir(args.run_dir)
    check_room(run_dir.path)
    atomic_file.make_directory(run_dir.path)
    facts: dict[str, Any] = {"format": 1, "is_complete": False, "ended": "",
                             "plan": {"minutes": args.minutes, "live_minutes": args.live_minutes},
                             "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                             **proof.board_facts(), "training": None, "live": None}
    training = Training(run_dir, signals, args.minutes, args.threads)
    training.run()
    is_trained = training.is_finished
    facts["training"], code = training.facts(), training.code
    if not facts["training"]["steps"] and code:   # it has said why
        return code
    if is_trained and not signals.stop.is_set():
        living = Living(run_dir, signals, args.live_minutes)
        living.run()
        facts["live"], code = living.facts(), living.code
        facts["is_complete"] = not code and not signals.stop.is_set()
    if not facts["is_complete"]:
        phase = "live" if is_trained else "training"
        facts["ended"] = (f"interrupted during {phase}" if signals.stop.is_set() else
                          f"seed {phase.replace('training', 'train')} ended with exit code {code}")
        code = INTERRUPTED if signals.stop.is_set() else code or BAD_INPUT
    print(proof.write(run_dir, facts))
    return code


def number_within(low: float, high: float) -> Any:
    def parse(text: str) -> float:
        if not low <= float(text) <= high:
            raise argparse.ArgumentTypeError(f"{text}: use {low:g} to {high:g}")
        return float(text)
    return parse


def main() -> int:
    parser = argparse.ArgumentParser(prog="bin/prove.sh", description=__doc__.partition("\n\n")[0])
    minutes = number_within(0.1, MAX_MINUTES)
    parser.add_argument("--minutes", type=minutes, default=60.0, help="of training")
    parser.add_argument("--live-minutes", type=minutes, default=10.0)
    parser.add_argument("--threads", type=int, default=min(4, len(os.sched_getaffinity(0))))
    parser.add_argument("--run-dir", type=Path, default=Path("runs/proof"))
    args = parser.parse_args()
    try:
        with watched(None) as signals:
            return prove(args, signals)
    except SeedError as error:
        print(f"seed: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"seed: {error.filename or args.run_dir}: {error.strerror}: use another --run-dir, "
              f"or free some space", file=sys.stderr)
        return os_error_code(error)


if __name__ == "__main__":
    sys.exit(main())
