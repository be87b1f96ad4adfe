"""Faults of every kind, again and again, in trainings with self-play and a teacher.

    python -m tests.soak.storm --minutes 60

Each process of a training is struck by up to three faults that it has to go on from (SIGSTOP,
SIGUSR1, rotated metrics, its directory renamed away and back), and most by one that ends it:
SIGKILL at any moment or at a step of a save, a save that fails, SIGHUP and the other signals, a
deleted lock, a lock that another trainer takes while this one is stopped, killed compilers. Its
standard streams may be full pipes or closed. Each exit code must be the documented one.

When a run has ended, its checkpoint, its journals and all logged lines of training are those of an
undisturbed run, bit for bit; lines that a rotation took away may be missing. For that the teacher
is the mock. Replies of a real server may come at other steps, and so lead to other weights: the
weights depend on teacher.jsonl, which has the replies with their steps. So every fifth run asks a
server that is dropped and comes back, and its weights must be those of an undisturbed run that has
its teacher.jsonl and no server.
"""
import json
import os
import random
import shutil
import signal
import socket
import sys
import time
from collections import Counter
from pathlib import Path

from seed.errors import CheckpointError
from seed.storage import RunDir, checkpoint
from tests.soak import storm
from tests.support import storm_faults
from tests.support.chat_server import ChatServer, answer_sums
from tests.support.same_lines import reproducible_line
from tests.support.storm_faults import ENDING, PASSING, STREAMS, Trainer, wait_for_end

PRACTICE = ("--set=selfplay.tasks={parity=3}", "--set=selfplay.every_steps=20",
            "--set=selfplay.questions=4", "--set=selfplay.max_answer_bytes=4",
            "--set=selfplay.max_entropy=6", "--set=teacher.tasks={add=1.0}",
            "--set=teacher.every_steps=10", "--set=teacher.questions=8")
MOCK = ("--set=teacher.kind=mock",)
TAUGHT_EVERY = 5      # runs one has a server
COMPARED = ("step", "skip", "curriculum", "eval")   # kinds of lines
AT_ONCE = 0.3         # of the processes are struck before they have begun to train
COUNT_EVERY_S = 60.0


def compared_lines(run_dir: RunDir) -> list[str]:
    """Lines of training, without torn ones. An evaluation that was repeated is logged again."""
    lines: list[str] = []
    text = run_dir.metrics.read_text(errors="replace") if run_dir.metrics.exists() else ""
    for line in text.splitlines():
        try:
            kind = json.loads(line)["kind"]
        except (ValueError, KeyError, TypeError):
            continue
        same = reproducible_line(line)
        if kind in COMPARED and not (kind == "eval" and same in lines):
            lines.append(same)
    return lines


def difference(run_dir: RunDir, calm: RunDir, metrics_touched: bool) -> str:
    """What is not as in the undisturbed run; nothing if all is."""
    for name in ("checkpoint", "selfplay_log", "teacher_log"):
        ours, theirs = getattr(run_dir, name), getattr(calm, name)
        if (ours.exists() and ours.read_bytes()) != (theirs.exists() and theirs.read_bytes()):
            return f"{ours.name} has other bits"
    ours, theirs = compared_lines(run_dir), compared_lines(calm)
    if set(ours) - set(theirs):
        return f"a line of the metrics is another: {min(set(ours) - set(theirs))[:200]}"
    if not metrics_touched and ours != theirs:
        return "lines of the metrics are missing, out of order or there twice"
    return ""


class Server:
    """The teacher of a run: dropped and restarted, always at the same address."""

    def __init__(self):
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url, self.server = f"http://127.0.0.1:{self.port}/v1", None

    def start(self) -> None:
        if not self.server:
            self.server = ChatServer(answer_sums, port=self.port).__enter__()

    def stop(self) -> None:
        if self.server:
            self.server.__exit__()
        self.server = None


class MixedStorm:
    """The runs of a storm, one after another."""

    def __init__(self, seed: int, folder: Path):
        self.folder, self.dice = folder, random.Random(seed)
        self.cache = Path(os.environ.get("XDG_CACHE_HOME", folder.resolve() / "cache"))
        self.library = storm.build_faults(folder)
        self.counts: Counter[str] = Counter()    # of faults
        self.codes: Counter[int] = Counter()     # of exits
        self.n_processes = self.n_equal = self.n_taught = 0
        self._moments = [*storm.MOMENTS, *((operation, error) for operation in storm.OPERATIONS
                                           for error in ("eio", "enospc"))]

    def train(self, run_dir: Path, *options: str, streams: str = "read", cache: Path | None = None,
              fault: str = "") -> Trainer:
        env = {**os.environ, "XDG_CACHE_HOME": str(cache or self.cache)}
        if fault:
            env |= {"LD_PRELOAD": str(self.library), "FAULT": fault, "FAULT_DIR": run_dir.name}
        self.n_processes += 1
        return storm_faults.start([*storm.command(run_dir), *PRACTICE, *options], run_dir, env,
                                  streams, self.folder)

    def undisturbed(self, run_dir: Path, *options: str) -> str:
        """What went wrong, or nothing."""
        trainer = self.train(run_dir, *options)
        if wait_for_end(trainer, storm.STEPS) and trainer.process.returncode == 0:
            return ""
        return f"the undisturbed run {run_dir} failed: {trainer.text().splitlines()[-1:]}"

    def run(self, minutes: float) -> str:
        """What went wrong, or nothing."""
        calm = RunDir(self.folder / "calm")
        failure = self.undisturbed(calm.path, *MOCK)
        if not failure and not (calm.selfplay_log.exists() and calm.teacher_log.exists()):
            failure = "the undisturbed run did not practise"
        began_s = told_s = time.monotonic()
        number = 0
        while not failure and time.monotonic() - began_s < 60 * minutes:
            run_dir = RunDir(self.folder / str(number))
            if number % TAUGHT_EVERY == 1:
                failure = self.taught_run(run_dir)
            else:
                failure = self.disturbed_run(run_dir, MOCK, None, calm)
            number += 1
            if time.monotonic() - told_s > COUNT_EVERY_S:
                told_s = time.monotonic()
                print(self.report(told_s - began_s), file=sys.stderr, flush=True)
        if not failure:
            print(self.report(time.monotonic() - began_s))
        return failure

    def report(self, elapsed_s: float) -> str:
        """What was done until now."""
        faults = ", ".join(f"{count} {name}" for name, count in sorted(self.counts.items()))
        codes = ", ".join(f"{count} with {code}" for code, count in sorted(self.codes.items()))
        return (f"storm: {elapsed_s / 60:.1f} min, {sum(self.counts.values())} faults ({faults}); "
                f"{self.n_processes} processes, exits {codes}; {self.n_equal} runs ended, all "
                f"bit-identical, {self.n_taught} of them with a teacher's server that was dropped")

    def taught_run(self, run_dir: RunDir) -> str:
        """A run whose teacher is dropped equals one that has its replies and no teacher at all."""
        server = Server()
        options = ("--set=teacher.kind=endpoint", f"--set=teacher.url={server.url}",
                   "--set=teacher.timeout_s=2")
        server.start()
        failure = self.disturbed_run(run_dir, options, server, None)
        server.stop()
        if failure:
            return failure
        replay = RunDir(run_dir.path.with_name(f"{run_dir.path.name}-replay"))
        replay.path.mkdir()
        if run_dir.teacher_log.exists():
            shutil.copy(run_dir.teacher_log, replay.teacher_log)
        failure = self.undisturbed(replay.path, *options)
        different = failure or difference(run_dir, replay, metrics_touched=True)
        self.n_taught += 1
        return self.ended(run_dir, different) or self.removed(replay)

    def note(self, run_dir: RunDir, names: list[str], code: int, text: str) -> None:
        """Keeps what struck a process and what it said beside its run, until that has ended."""
        steps = []
        for path in (run_dir.checkpoint, run_dir.previous_checkpoint):
            try:
                steps.append(checkpoint.read(path).meta["step"])
            except CheckpointError:   # a taken lock may leave half a file
                steps.append(None)
        journals = [path.read_bytes().count(b"\n") if path.exists() else None
                    for path in (run_dir.selfplay_log, run_dir.teacher_log)]
        with open(self.folder / "processes.log", "a", encoding="utf-8") as file:
            file.write(f"{run_dir}: {', '.join(names)}: exit code {code}; saved {steps}, lines of "
                       f"journals {journals}\n{text}\n")

    def ended(self, run_dir: RunDir, different: str) -> str:
        if different:
            return f"{different}; kept in {run_dir}, what struck it in {self.folder}/processes.log"
        (self.folder / "processes.log").unlink(missing_ok=True)
        self.n_equal += 1
        return self.removed(run_dir)

    def removed(self, run_dir: RunDir) -> str:
        shutil.rmtree(run_dir.path)
        return ""

    def disturbed_run(self, run_dir: RunDir, options: tuple[str, ...], server: Server | None,
                      calm: RunDir | None) -> str:
        """One run through all its processes; compared with `calm`, if given."""
        metrics_touched = False
        while True:
            trainer, names = self.disturbed_process(run_dir.path, options, server)
            code, text = trainer.process.returncode, trainer.text()
            metrics_touched |= trainer.metrics_touched or code == 2   # lines may be lost
            self.codes[code] += 1
            self.note(run_dir, names, code, text)
            if "dropped: cannot write" in text:
                return f"after {', '.join(names)}: a journal was not written; its run is {run_dir}"
            last = (text.splitlines() or [""])[-1]
            if code not in trainer.codes or "Traceback" in text and code != -signal.SIGINT:
                return f"after {', '.join(names)}: exit code {code}: {last}; its run is {run_dir}"
            if trainer.errors and code in trainer.words and trainer.words[code] not in last:
                return f"after {', '.join(names)}: exit code {code} says {last}"
            if trainer.errors:
                trainer.errors.unlink()
            if code == 0 and not trainer.stopped:
                break
        if calm is None:
            return ""
        return self.ended(run_dir, difference(run_dir, calm, metrics_touched))

    def disturbed_process(self, run_dir: Path, options: tuple[str, ...],
                          server: Server | None) -> tuple[Trainer, list[str]]:
        """One process to its end, and the names of the faults that struck it."""
        dice = self.dice
        ending = dice.choice([*ENDING, "a moment of the save", "a moment of the save",
                              "lock taken over", "none"])
        names, fault, cold = [ending], "", None
        if ending == "a moment of the save":
            operation, what = self._moments[self.counts[ending] % len(self._moments)]
            first = dice.randint(2, 8)   # a run that cannot save its first checkpoint is refused
            fault = f"{operation}:{first}:{first}:{what}"
        if ending == "compiler killed":
            cold = storm_faults.cold_cache(self.cache, self.folder / f"cold-{self.n_processes}",
                                           dice)
        streams = "read" if cold else dice.choice(STREAMS)
        if streams != "read":
            names.append(streams)
        trainer = self.train(run_dir, *options, streams=streams, cache=cold, fault=fault)
        if fault:
            trainer.codes.add(-signal.SIGKILL)
        self.strike(trainer, ending, names, server, options)
        if not wait_for_end(trainer, storm.STEPS):
            names.append("hung")
            trainer.codes.clear()
        if cold:
            shutil.rmtree(cold)
        self.counts.update(name for name in names if name != "none")
        return trainer, names

    def strike(self, trainer: Trainer, ending: str, names: list[str], server: Server | None,
               options: tuple[str, ...]) -> None:
        """The faults of one process; adds those that pass to `names`."""
        dice = self.dice
        if ending in ("SIGKILL", "SIGHUP", "other signals") and dice.random() < AT_ONCE:
            time.sleep(dice.uniform(0.0, 1.5))
            ENDING[ending](trainer, dice)
            return
        if ending == "compiler killed":
            ENDING[ending](trainer, dice)
            return
        if not storm_faults.wait_for_line(trainer):
            return
        for _ in range(dice.choice([0, 0, 1, 1, 2, 3])):
            name = dice.choice([*PASSING, *(["teacher dropped"] * 3 if server else [])])
            time.sleep(dice.uniform(0.0, 0.3))
            if trainer.process.poll() is not None:
                return
            names.append(name)
            if name == "teacher dropped":
                drop(server, dice)
            else:
                PASSING[name](trainer, dice)
        time.sleep(dice.uniform(0.0, 0.5))
        if ending in ENDING:
            ENDING[ending](trainer, dice)
        if ending == "lock taken over":
            self.take_over(trainer, options)

    def take_over(self, trainer: Trainer, options: tuple[str, ...]) -> None:
        """While the trainer is stopped, its lock is deleted and another one trains there."""
        trainer.send(signal.SIGSTOP)
        storm_faults.delete_lock(trainer, self.dice)
        successor = self.train(trainer.run_dir.path, *options)
        if storm_faults.wait_for_line(successor):
            time.sleep(self.dice.uniform(0.0, 1.0))
        successor.process.kill()
        successor.process.wait()
        if "Traceback" in successor.text():
            trainer.codes.clear()
        trainer.metrics_touched = True
        trainer.send(signal.SIGCONT)


def drop(server: Server | None, dice: random.Random) -> None:
    """It is away for a while."""
    assert server
    server.stop()
    time.sleep(dice.uniform(0.0, 1.5))
    server.start()
