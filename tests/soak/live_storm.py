"""Kills a brain that lives and learns, again and again, and looks at what comes back.

    python -m tests.soak.live_storm --kills 200

SIGKILL strikes the whole tree, or the supervisor, tick loop, brain, body or learner (which is the
gate, too) alone: at random moments of a life, its start included, and in the milliseconds of a
promotion or a roll back. Learning is the real one, of a small brain; that the gate lets every
second candidate pass, and that the watch fails every second one that acts, is the storm's doing, so
that there are promotions and roll backs to strike. After each kill: no process and no memory of a
life that has ended is left; the pointer, its brain, the lineage and all episodes are whole and in
agreement; the next life acts with the brain of the pointer; what was killed alone acts again.
Prints one line and exits by it: 0 all is well, 1 something was not.
"""
import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from seed.body.episodes import EpisodeFolder
from seed.errors import ConfigError, SeedError
from seed.live import latch, shared_block
from seed.live.brains import ACTS, CUT, POINTER, Brains
from seed.live.learn import MID, Candidate, Plan, read_plan, work_of
from seed.live.safety import State
from seed.live.shared_block import Block
from seed.runtime.sealed_file import describe, read
from seed.storage import RunDir, checkpoint
from tests.support.processes import descendants

HANG_S = 600.0
MAX_MOMENT_S = 40.0   # for a decision to strike at
ROBOT = '''
import time
from pathlib import Path
from seed.body.cart_pole import CartPole
class Robot(CartPole):
    rate_hz, safe_action = 100, 1
    is_first = True
    def step(self, action):
        if self.is_first:
            self.is_first = False
            with open(Path(__file__).parent / "first steps", "a") as file:
                file.write(f"{time.monotonic_ns()}\\n")
        return super().step(action)
'''
TREE, SUPERVISOR, START = "tree", "supervisor", "start "
MODULES = {"tick loop": b"seed.live.tick_loop", "brain": b"seed.live.brain_worker",
           "body": b"user_class_worker.py", "learner": b"--learner"}
TARGETS = [TREE, SUPERVISOR, *MODULES]
BAD_WORDS = "Traceback", "cannot be used", "damaged", "checksum"
SMALL = ["model.d_model=32", "model.d_ff=32", "model.n_layers=2", 'model.pattern="SA"',
         "model.sliding_window=4", "train.minutes=0", "train.steps=20", "body.rows=4",
         "body.ticks=16", "body.chunk=8"]


def live(run_dir: Path, seed: int) -> int:
    """`seed live`, in the process that is to be killed."""
    from seed.__main__ import main as seed_main
    from seed.governor import Decision
    from seed.live import learner, live_processes, pace, supervisor, watch
    dice, look = random.Random(seed), watch.Watch.look
    learner.learner_command = lambda live_dir, kind, threads, plan: [   # type: ignore
        sys.executable, "-m", "tests.soak.live_storm", "--learner", str(live_dir), "--plan",
        json.dumps(plan._asdict())]
    learner.RETRY_S = learner.MAX_RETRY_S = live_processes.MAX_RETRY_S = 1.0
    supervisor.MIN_TICKS = 100
    pace.decide_by_deadlines = lambda config, deadlines: Decision()   # however busy the machine is

    def failing(self: watch.Watch, now: watch.Lived) -> str:
        reason = look(self, now)
        return "the storm" if self.is_watching and dice.random() < 0.1 else reason
    watch.Watch.look = failing   # type: ignore
    return seed_main(["live", "--run-dir", str(run_dir), "--body",
                      f"{run_dir.parent}/robot.py:Robot", "--learn-every=150",
                      "--learn-minutes=0.02", "--set=live.watch_ticks=100", "--no-thermal"])


def learn(live_dir: Path, plan: Plan) -> int:
    """The learner's process: some learn, most take a brain that was made before, so that there are
    many decisions."""
    from seed.live import learn as module
    if random.random() < 0.85:
        module.learn = quick   # type: ignore
    else:
        from seed.body import dynamics
        from seed.evaluation import in_model
        from seed.live import gate
        dynamics.FIT_TICKS, in_model.PAIRS, judge = 64 * 50, 64, gate.judge
        gate.judge = lambda *args: judge(*args)._replace(   # type: ignore
            reason=random.choice(["", "the storm"]))
    candidate = module.run(live_dir, MID, plan, 1)
    print(json.dumps(candidate._asdict()), flush=True)
    return 0


def quick(live_dir: Path, *_: object) -> Candidate:
    work, brains = work_of(live_dir), Brains(live_dir)
    parent = read_plan(work).parent
    work.exported_brain.write_bytes(random.choice(
        list(live_dir.parents[1].glob("spare*.tflite"))).read_bytes())
    name = brains.add(work) if random.random() < 0.8 else ""
    return Candidate(name, parent, reason="" if name not in ("", parent) else "the storm")


def make_spares(folder: Path) -> int:
    from seed.evaluation import TrainedBrain
    from seed.export import Options
    from seed.export.brain_file import BrainFile
    trained = TrainedBrain.load(RunDir(folder / "run"), 1, lambda line: None)
    for number in range(8):
        trained.params["norm_f"][0] *= 1.01
        (folder / f"spare{number}.tflite").write_bytes(BrainFile(trained, Options()).tobytes())
    return 0


class Failed(Exception):
    """What was not as it has to be."""


class Storm:
    def __init__(self, folder: Path, seed: int):
        self.folder, self.run_dir, self.dice = folder, folder / "run", random.Random(seed)
        self.live_dir = self.run_dir / "live"
        self.struck: Counter[str] = Counter()
        self.starts: list[tuple[float, float]] = []   # until the first tick; of all processes
        self.decisions: Counter[str] = Counter()
        self.generation = self.lives = 0
        (folder / "robot.py").write_text(ROBOT)
        subprocess.run([sys.executable, "-m", "seed", "train", "--body", "cartpole", "--threads=1",
                        "--profile=control", *(f"--set={text}" for text in SMALL),
                        "--run-dir", str(self.run_dir)], check=True, capture_output=True)
        subprocess.run([sys.executable, "-m", "tests.soak.live_storm", "--spares", str(folder)],
                       check=True, capture_output=True)

    def run(self, kills: int) -> None:
        began_s = time.monotonic()
        while (n := sum(self.struck.values())) < kills:
            self.life()
            print(f"{n} kills, {self.lives} lives, {dict(self.decisions)}, "
                  f"{time.monotonic() - began_s:.0f} s", file=sys.stderr, flush=True)

    def life(self) -> None:
        """From its start until the tree or the supervisor is killed."""
        self.lives += 1
        first_steps = self.folder / "first steps"
        first_steps.unlink(missing_ok=True)
        self.log = self.folder / "life.log"
        with open(self.log, "wb") as log:
            began_ns = time.monotonic_ns()
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.soak.live_storm", "--life", str(self.run_dir),
                 "--seed", str(self.lives)], stdout=log, stderr=subprocess.STDOUT)
        if self.lives > 1 and self.dice.random() < 0.15:   # in its start
            time.sleep(self.dice.uniform(0, 1.5))
            return self.end(self.dice.choice([TREE, SUPERVISOR]), START)
        self.wait(first_steps.exists, "the first tick")
        if self.lives > 1:   # the first life exports its brain
            self.starts.append(((int(first_steps.read_text().split()[0]) - began_ns) / 1e9,
                                cpu_s(self.process.pid)))
        self.check_brain()
        for _ in range(self.dice.randint(0, 6)):
            target = self.dice.choice(list(MODULES))
            self.strike(target)
        self.end(self.dice.choice([TREE, SUPERVISOR]))

    def wait(self, is_true_fn: Callable[[], object], what: str) -> None:
        ends_s = time.monotonic() + HANG_S
        while not is_true_fn():
            if time.monotonic() > ends_s:
                raise Failed(f"{what} does not come")
            if self.process.poll() is not None and self.process.returncode != -signal.SIGKILL:
                raise Failed(f"the life ended ({self.process.returncode}) before {what}")
            with suppress(ConfigError):
                if self.process.poll() is None and (
                        Block.open(self.live_dir))["state"] == State.LATCHED:
                    latch.clear(self.live_dir)   # what the storm has done
            time.sleep(0.05)

    def moment(self) -> str:
        """Waits for one: random, or while the lineage or the pointer changes, if that comes."""
        if self.dice.random() < 0.7:
            time.sleep(self.dice.uniform(0.0, 4.0))
            return ""
        paths = [self.live_dir / name for name in ("lineage.jsonl", POINTER, "roll_back.json")]
        before, ends_s = list(map(stamp, paths)), time.monotonic() + MAX_MOMENT_S
        while time.monotonic() < ends_s:
            if list(map(stamp, paths)) != before:
                time.sleep(self.dice.choice([0.0, self.dice.uniform(0.0, 0.02)]))
                return "decision "
            time.sleep(0.001)
        return ""

    def strike(self, target: str) -> None:
        """Kills one process; it has to come back."""
        moment = self.moment()
        pids = self.pids(target)
        if not pids:
            return
        block = Block.open(self.live_dir)
        os.kill(pids[-1], signal.SIGKILL)
        self.struck[moment + target] += 1
        if target != "learner":
            self.wait(lambda: self.pids(target) and pids[-1] not in self.pids(target),
                      f"another {target}")
        ticks, episodes = block["ticks"], block["episodes"]
        self.wait(lambda: block["ticks"] > ticks + 20 and block["episodes"] > episodes
                  and block["state"] in (State.ACTING, State.RESETTING),
                  f"the next episode after the {target} was killed")

    def end(self, target: str, moment: str | None = None) -> None:
        moment = self.moment() if moment is None else moment
        below = descendants(self.process.pid)
        pids = [self.process.pid, *map(int, below if target == TREE else ())]
        self.dice.shuffle(pids)
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        self.struck[moment + target] += 1
        self.wait(lambda: not any(os.path.exists(f"/proc/{pid}/exe") for pid in below),
                  "the end of all processes")
        for word in BAD_WORDS:
            if word in (text := self.log.read_text(errors="replace")):
                raise Failed(f"a life told: {[line for line in text.splitlines() if word in line]}")
        with suppress(OSError):
            # Before there is a tick loop nobody else can remove it: then the next start does.
            if target == SUPERVISOR and moment != START and shared_block.folder_of(
                    self.live_dir).exists():
                raise Failed("the supervisor's memory is left")
        self.check_disk()

    def pids(self, target: str) -> list[int]:
        """Of the processes of a kind, the oldest first."""
        pids = []
        for pid in descendants(self.process.pid):
            with suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                if any(word.endswith(MODULES[target]) for word in words) \
                        and b"user_class_supervisor.py" not in b" ".join(words):
                    pids.append(int(pid))
        return sorted(pids)

    def check_brain(self) -> None:
        """The brain that acts is that of the pointer."""
        pointer = Brains(self.live_dir).promoted
        block = Block.open(self.live_dir)
        for pid in self.pids("brain"):
            fields = json.loads(Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[-2])
            name = str(describe(read(fields["brain"]), "brain")["blake2b"])[:16]
            if block["generation"] == 1 and name != (pointer.brain if pointer else "") \
                    and block["swaps"] == 0:
                raise Failed(f"brain {name} acts, the pointer is {pointer}")
            return

    def check_disk(self) -> None:
        """All that a life has left, before the next one begins."""
        if not (self.live_dir / POINTER).exists() and self.lives == 1:
            return
        try:
            brains = Brains(self.live_dir)
            pointer = brains.promoted
            assert pointer
            describe(read(brains.file(pointer.brain)), pointer.brain)
            checkpoint.read(brains.run_dir(pointer.brain).checkpoint)
            for _ in EpisodeFolder(self.live_dir / "episodes").steps():
                pass
        except (SeedError, ConfigError, ValueError, OSError, AssertionError) as error:
            raise Failed(f"{type(error).__name__}: {error}") from error
        lines = (self.live_dir / "lineage.jsonl").read_bytes().splitlines(keepends=True)
        if len(brains.lineage.rows) < len(lines) - 1:
            raise Failed("a line of the lineage is broken")
        if pointer.generation < self.generation:
            raise Failed(f"the pointer goes back: {pointer}, was {self.generation}")
        self.generation = pointer.generation
        self.check_lineage(brains, pointer.generation)

    def check_lineage(self, brains: Brains, pointer: int) -> None:
        """Each brain that acted follows the one before; at most the last decision is not done."""
        rows, generation = brains.lineage.rows, 0
        for row in rows:
            if row.decision == CUT:
                generation = row.generation
            elif row.decision in ACTS:
                if row.generation != generation + 1:
                    raise Failed(f"the lineage misses a line before {row}")
                generation = row.generation
        last = next((row.decision for row in reversed(rows) if row.decision in (*ACTS, CUT)), "")
        allowed = {generation, generation + 1} | ({generation - 1} if last in ACTS else set())
        if pointer not in allowed:
            raise Failed(f"the pointer is of {pointer}, the lineage of {generation}")
        self.decisions = Counter(row.decision for row in rows)


def cpu_s(pid: int) -> float:
    """Of a process, and all that it has started and waited for or that still run."""
    ticks = 0
    for number in (str(pid), *descendants(pid)):
        with suppress(OSError):
            fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def stamp(path: Path) -> int:
    with suppress(OSError):
        return path.stat().st_mtime_ns
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--life", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--learner", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--plan", help=argparse.SUPPRESS)
    parser.add_argument("--spares", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.life:
        return live(args.life, args.seed)
    if args.learner:
        return learn(args.learner, Plan.from_dict(json.loads(args.plan)))
    if args.spares:
        return make_spares(args.spares)
    storm = Storm(Path(tempfile.mkdtemp()), args.seed)
    try:
        storm.run(args.kills)
    except Failed as failure:
        below = descendants(os.getpid())
        for pid in map(int, below):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        print(f"live storm: FAILED after {sum(storm.struck.values())} kills, {dict(storm.struck)}: "
              f"{failure}; kept in {storm.folder}")
        return 1
    starts = sorted(storm.starts)
    print(f"live storm: {sum(storm.struck.values())} kills {dict(storm.struck)}, {storm.lives} "
          f"lives, {dict(storm.decisions)}; start to first tick: median "
          f"{starts[len(starts) // 2][0]:.2f} s, worst {starts[-1][0]:.2f} s, "
          f"{sum(s > 3 for s, _ in starts)} of {len(starts)} above 3 s; CPU of all processes until "
          f"then: worst {max(cpu for _, cpu in starts):.2f} s")
    shutil.rmtree(storm.folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
