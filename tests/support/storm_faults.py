"""What strikes a training in a storm, and with which exit codes it may end then.

A fault acts on a Trainer and adds the exit codes that may follow. Those in PASSING leave the
process running, or let it end in a way that they name.
"""
import contextlib
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from seed.errors import INTERRUPTED, CheckpointError
from seed.storage import RunDir, checkpoint
from tests.support.processes import descendants, full_pipe

POLL_S = 0.005
HANG_S = 600.0
STREAMS = ("read", "read", "stdout full", "stdout closed", "stderr full", "both full")
LOST = "deleted or replaced during the run"
MOVED = "was moved during the run"


@dataclass
class Trainer:
    """One process of a training, and what is known about its end."""
    process: subprocess.Popen
    run_dir: RunDir
    errors: Path | None                  # file of its standard error; None: nobody reads that
    pipes: list[int] = field(default_factory=list)   # ends that the storm holds
    codes: set[int] = field(default_factory=lambda: {0})
    words: dict[int, str] = field(default_factory=dict)   # that its last line has, by exit code
    stopped: bool = False                # asked to end: 0 does not mean that it has finished
    metrics_touched: bool = False        # lines of the metrics may be missing

    def text(self) -> str:
        return self.errors.read_text() if self.errors else ""

    def send(self, number: int) -> None:
        if self.process.poll() is None:
            os.kill(self.process.pid, number)

    def saved_step(self) -> int:
        try:
            return checkpoint.read_meta(self.run_dir.checkpoint)["step"]
        except CheckpointError:   # none yet, or moved away
            return -1


def start(command: list[str], run_dir: Path, env: dict[str, str], streams: str,
          folder: Path) -> Trainer:
    """Its standard streams as named: full pipes that nobody reads, closed, or read."""
    pipes: list[int] = []
    full = full_pipe() if "full" in streams else None
    pipes += full or ()
    errors = None if streams in ("stderr full", "both full") else Path(
        tempfile.mkstemp(dir=folder, prefix="errors-")[1])
    if streams == "stdout closed":
        command = ["sh", "-c", 'exec "$@" >&-', "sh", *command]
    with open(errors or os.devnull, "wb") as file:
        process = subprocess.Popen(
            command, env=env, stderr=full[1] if full and not errors else file,
            stdout=full[1] if full and "stderr" not in streams else subprocess.DEVNULL)
    return Trainer(process, RunDir(run_dir), errors, pipes)


def wait_for_line(trainer: Trainer) -> bool:
    """Until the process has written a line of its metrics; False if it ends or hangs before."""
    until, least = time.monotonic() + HANG_S, _size(trainer.run_dir.metrics)
    while trainer.process.poll() is None and time.monotonic() < until:
        now = _size(trainer.run_dir.metrics)
        if now > least:
            return True
        least = min(least, now)   # a resumed run cuts lines first
        time.sleep(POLL_S)
    return False


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def wait_for_end(trainer: Trainer, last_step: int) -> bool:
    """False, and it is killed, if it hangs. A full standard output is read when all is saved: the
    last thing that a training does is to print its result there."""
    until, has_saved = time.monotonic() + HANG_S, False
    while trainer.process.poll() is None and time.monotonic() < until:
        if trainer.pipes:
            has_saved = has_saved or trainer.stopped or trainer.saved_step() == last_step
            if has_saved:
                _drain(trainer.pipes[0])
        time.sleep(POLL_S)
    hangs = trainer.process.poll() is None
    trainer.process.kill()
    trainer.process.wait()
    for end in trainer.pipes:
        os.close(end)
    trainer.pipes.clear()
    return not hangs


def _drain(reader: int) -> None:
    os.set_blocking(reader, False)
    with contextlib.suppress(BlockingIOError):
        os.read(reader, 2 ** 20)


# Faults that a run survives

def pause(trainer: Trainer, dice: random.Random) -> None:
    trainer.send(signal.SIGSTOP)
    time.sleep(dice.uniform(0.5, 4.0))
    trainer.send(signal.SIGCONT)


def ask_for_a_save(trainer: Trainer, dice: random.Random) -> None:
    for _ in range(dice.randint(1, 5)):
        trainer.send(signal.SIGUSR1)
        time.sleep(dice.uniform(0.0, 0.05))


def rotate_metrics(trainer: Trainer, dice: random.Random) -> None:
    """By renaming, by copying and truncating, by deleting, or a crash leaves half a line."""
    path = trainer.run_dir.metrics
    how = dice.choice(["rename", "copytruncate", "delete", "half a line"])
    trainer.metrics_touched = True
    with contextlib.suppress(FileNotFoundError):
        if how == "rename":
            path.rename(path.with_suffix(".1"))
        elif how == "copytruncate":
            shutil.copy(path, path.with_suffix(".2"))
            os.truncate(path, 0)
        elif how == "delete":
            path.unlink()
        else:
            data = path.read_bytes()
            os.truncate(path, min(len(data), data.rfind(b"\n", 0, -1) + dice.randint(2, 40)))


def move_and_return(trainer: Trainer, dice: random.Random) -> None:
    """The run directory is elsewhere for a while. A run that saves meanwhile ends, resumable."""
    away = trainer.run_dir.path.with_name(f"{trainer.run_dir.path.name}-away")
    trainer.run_dir.path.rename(away)
    time.sleep(dice.uniform(0.0, 0.4))
    away.rename(trainer.run_dir.path)
    trainer.codes.add(2)
    trainer.words[2] = MOVED


PASSING: dict[str, Callable[[Trainer, random.Random], object]] = {
    "SIGSTOP": pause, "SIGUSR1": ask_for_a_save, "metrics rotated": rotate_metrics,
    "directory away": move_and_return}


# Faults that end a process

def kill(trainer: Trainer, dice: random.Random) -> None:
    trainer.send(signal.SIGKILL)
    trainer.codes.add(-signal.SIGKILL)


def ask_to_stop(trainer: Trainer, number: int) -> None:
    """Before the signals are watched, the process dies of it, as any other."""
    trainer.send(number)
    trainer.stopped = True
    trainer.codes |= {-number, *([INTERRUPTED] if number == signal.SIGINT else [])}


def hang_up(trainer: Trainer, dice: random.Random) -> None:
    ask_to_stop(trainer, signal.SIGHUP)


def interrupt(trainer: Trainer, dice: random.Random) -> None:
    ask_to_stop(trainer, dice.choice([signal.SIGTERM, signal.SIGINT, signal.SIGPWR,
                                      signal.SIGXCPU]))


def delete_lock(trainer: Trainer, dice: random.Random) -> None:
    trainer.run_dir.lock.unlink(missing_ok=True)
    trainer.codes.add(75)
    trainer.words[75] = LOST


def kill_compilers(trainer: Trainer, dice: random.Random) -> None:
    """Every one of them until the process ends."""
    trainer.codes.add(75)
    trainer.words[75] = "cannot compile a kernel: Killed; run the same command again"
    time.sleep(dice.uniform(0.0, 3.0))
    until = time.monotonic() + HANG_S
    while trainer.process.poll() is None and time.monotonic() < until:
        kill_one_compiler(trainer)
        time.sleep(POLL_S)


def kill_one_compiler(trainer: Trainer) -> bool:
    for pid in descendants(trainer.process.pid):
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/comm").read_text().startswith("clang"):
                os.kill(int(pid), signal.SIGKILL)
                return True
    return False


ENDING: dict[str, Callable[[Trainer, random.Random], object]] = {
    "SIGKILL": kill, "SIGHUP": hang_up, "other signals": interrupt, "lock deleted": delete_lock,
    "compiler killed": kill_compilers}


def cold_cache(warm: Path, cold: Path, dice: random.Random) -> Path:
    """A new cache with some or none of the kernels of another."""
    share = dice.choice([0.0, 0.5, 0.9, 0.97])
    kernels = "seed-brain/kernels"
    (cold / kernels).mkdir(parents=True, mode=0o700)
    for path in sorted((warm / kernels).iterdir()):
        if len(path.name) == 40 and dice.random() < share:
            shutil.copy(path, cold / kernels)
    return cold
