"""A week in the life of a brain, in minutes: days in which it acts and learns of what is new, and
seven nights of rest in which it learns from everything.

    python -m tests.soak.week [--days 7] [--run-dir RUN]

Clock, board, robot and its report are simulated (tests/support/simulated_week.py): a tick every
two seconds of the day, hot afternoons, a battery, an hour with a person at the wheel; on the third
morning a motor is worn, on the fifth noon the robot is switched off for a moment. Supervisor,
learners, gate, watch and files are the real ones. Prints a line a day, and exits by the last: 0 if
files stay within bounds, memory does not grow after the first day, the lineage tells of each
change, and what was known on the first day is known on the last, to 3 %; else 1.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from seed.body.cart_pole import CartPole
from seed.interpreter import seed_command
from seed.live import pace, supervisor
from seed.live.brains import (ACTS, CONFIRMED, FIRST, KEPT, PROMOTED, REFUSED, ROLLED_BACK, Brains,
                              Decision)
from seed.live.learn import SLOW
from seed.live.supervisor import Live, LiveOptions
from seed.profile_file import load_profile
from seed.robot_report import ReportSource
from seed.storage import RunDir
from tests.support import simulated_week
from tests.support.simulated_week import HOUR_S, SimulatedTime, board, write_report

STEP_S, ENDING_S = 60.0, 0.05    # simulated; both, while a learner saves
STEP_CPU_S, MAX_STEP_S = 0.5, 30.0   # that a learner computes in a step; real, if it does not
STEP_TICKS = 30                  # by day
TRAIN_STEPS = 1500
EPISODES_MB, GROWTH_MB, MAX_LOSS = 8.0, 8.0, 0.03
BRAIN_MB, WORK_MB, OTHER_MB = 6.0, 60.0, 2.0   # of a brain's folder, two learners' and the rest
WORN, CHANGE_DAY, RESTART_DAY = 0.5, 2, 4
TRAIN = ["--profile=control", "--set=model.d_model=32", "--set=model.d_ff=32",
         "--set=model.n_layers=2", "--set=model.pattern=SA", "--body=cartpole", "--body=pendulum",
         "--threads=1", "--set=body.curriculum_steps=4",
         "--set=curriculum.tasks={copy=1.0,identity=1.0}", "--set=curriculum.holdout_items=100",
         "--set=curriculum.eval_every_steps=0", "--set=train.minutes=0"]
LIVE = ["live.learn_every_ticks=9000", "live.learn_minutes=0.05", "live.learn_ticks=5000",
        "live.rest_every_ticks=20000", "live.rest_minutes=0.2", "live.watch_ticks=2000",
        f"live.episodes_mb={EPISODES_MB}", "governor.min_battery_percent=30"]


class Skills(NamedTuple):
    """What is not lived in that week: accuracy of the curriculum, return in the other body."""
    accuracy: float
    pendulum: float

    def lost(self, now: "Skills") -> float:
        """The largest fraction that was lost."""
        return max(self.accuracy - now.accuracy,
                   (self.pendulum - now.pendulum) / abs(self.pendulum))


def seed(*arguments: str) -> str:
    return subprocess.run(seed_command(*arguments), check=True, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, text=True).stdout


def skills(brain: RunDir) -> Skills:
    scores = json.loads(seed("eval", "--json", "--threads=1", f"--run-dir={brain}"))["holdout"]
    returns = json.loads(seed("play", "--json", "--threads=1", "--body=pendulum",
                              f"--run-dir={brain}"))
    return Skills(statistics.fmean(s["correct"] / s["count"] for s in scores), returns[0]["mean"])


def megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2 ** 20


def lineage_faults(rows: list[Decision], acting: str, told: int) -> list[str]:
    """What does not follow from the line before; `told`: decisions that the log has told."""
    faults, brain, generation, is_watched = [], "", 0, False
    for number, row in enumerate(rows):
        name = f"line {number} ({row.decision})"
        if row.decision in ACTS:
            if row.generation != generation + 1:
                faults.append(f"{name}: generation {row.generation} follows {generation}")
            if row.decision != FIRST and row.parent != brain:
                faults.append(f"{name}: its parent {row.parent} is not {brain}, which acted")
            if row.decision == ROLLED_BACK and not is_watched:
                faults.append(f"{name}: nothing was watched")
            brain, generation = row.brain, row.generation
            is_watched = row.decision == PROMOTED
        elif row.decision == CONFIRMED:
            if not is_watched or row.brain != brain:
                faults.append(f"{name}: {row.brain} was not watched")
            is_watched = False
        if row.decision in (PROMOTED, REFUSED) and not (row.loop and (row.reason or row.figures)):
            faults.append(f"{name}: it does not say of which loop, or why")
    if brain != acting:
        faults.append(f"{acting} acts, the last line says {brain}")
    n_told = sum(row.decision in (PROMOTED, REFUSED, CONFIRMED, ROLLED_BACK) for row in rows)
    return faults + ([f"{n_told} lines for {told} decisions"] if n_told != told else [])


class Week:
    """`log` gets what the supervisor tells; `days`: how many to live."""

    def __init__(self, folder: Path, log_path: Path):
        self.run_dir, self.clock, self.pole = RunDir(folder), SimulatedTime(), CartPole()
        self.report, self._log_path = folder / "report.json", log_path
        self.profile = load_profile("control", [*LIVE, f"governor.report_file={self.report}"])
        self.decisions = 0
        self.memory_mb: list[tuple[float, float]] = []   # hours, of this process
        supervisor.FastLoop = simulated_week.loops(self.pole)   # type: ignore
        supervisor.system_health.read = lambda folder: board(self.clock)   # type: ignore
        pace.open_source = lambda config: ReportSource(config, self.clock, self.clock.wall)

    def log(self, line: str) -> None:
        self.decisions += any(words in line for words in (
            "is refused", "acts now", "is confirmed", "rolled back"))
        with open(self._log_path, "a") as file:
            file.write(f"day {self.clock.day + 1} {self.clock.hour:05.2f} h  {line}\n")

    def start(self) -> None:
        write_report(self.clock, self.report)
        self.life = Live(LiveOptions(self.run_dir, "cartpole", self.profile), self.log, self.clock)
        self.life.brains._clock = self.clock.wall
        self.life.start()

    def live_for_a_day(self) -> None:
        """Until the next midnight."""
        day = self.clock.day
        if day == CHANGE_DAY:
            self.pole.force_n *= WORN
        while self.clock.day == day:
            self._step()
            if day == RESTART_DAY and self.clock.hour == 12:
                self.life.stop()
                self.start()

    def _step(self) -> None:
        learners = self.life.learners.values()
        if any(learner.is_ending for learner in learners):   # it has some seconds to save
            time.sleep(ENDING_S)
            self.clock.now_s += ENDING_S
        else:
            for learner in learners:
                if learner.is_running and not learner._is_still:
                    let_compute(learner._process)
            self.clock.now_s = STEP_S * (self.clock.now_s // STEP_S + 1)
            if not self.clock.is_night and not self.clock.is_driven:
                self.life.loop.live(STEP_TICKS)
        write_report(self.clock, self.report)
        self.life.poll()
        if self.clock.now_s % HOUR_S == 0:
            self.memory_mb.append((self.clock.now_s / HOUR_S, self_mb()))


def let_compute(process: subprocess.Popen) -> None:
    """For a step, by the time that it computes: however busy the machine is, it gets as far."""
    before_s, ends_s = cpu_s(process.pid), time.monotonic() + MAX_STEP_S
    while process.poll() is None and cpu_s(process.pid) < before_s + STEP_CPU_S:
        if time.monotonic() > ends_s:
            break
        time.sleep(0.01)


def cpu_s(pid: int) -> float:
    """Of a process, and of its children that have ended, as compilers have; 0 if it has ended."""
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def self_mb() -> float:
    """Of this process, without its children."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines()
                if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def live(days: int, folder: Path) -> list[str]:
    """What was not as it should be."""
    seed("train", *TRAIN, f"--steps={TRAIN_STEPS}", f"--run-dir={folder}")
    week, faults = Week(folder, folder / "week.log"), list[str]()
    live_dir = folder / "live"
    week.start()
    first = skills(week.life.brains.run_dir(week.life.brains.promoted.brain))
    print(f"week: it knows {first}", flush=True)
    for day in range(1, days + 1):
        week.live_for_a_day()
        brains, size_mb = week.life.brains, megabytes(live_dir)
        bound_mb = EPISODES_MB + (KEPT + 3) * BRAIN_MB + WORK_MB + OTHER_MB
        slow = sum(row.loop == SLOW for row in brains.lineage.rows)
        print(f"day {day}: {size_mb:.1f} MB on the disk, {megabytes(live_dir / 'episodes'):.1f} of "
              f"episodes; {len(brains.lineage.rows)} decisions, {slow} of the slow loop; brain "
              f"{brains.promoted.generation}; return {week.life.loop.block['last_return']:.0f}; "
              f"{self_mb():.0f} MB of memory", flush=True)
        if size_mb > bound_mb or megabytes(live_dir / "episodes") > EPISODES_MB + 1:
            faults.append(f"day {day}: {size_mb:.1f} MB on the disk, at most {bound_mb:.0f}")
    week.life.stop()
    rows = week.life.brains.lineage.rows
    acting = Brains(live_dir).promoted
    faults += lineage_faults(rows, acting.brain, week.decisions)
    if sum(row.loop == SLOW for row in rows) < days - 1:
        faults.append(f"the slow loop has ended {slow} times in {days} nights")
    later = [sample for sample in week.memory_mb if sample[0] >= 24]
    growth_mb = statistics.linear_regression(*zip(*later)).slope * 24 * (days - 1)
    if growth_mb > GROWTH_MB:
        faults.append(f"memory grows by {growth_mb:.1f} MB after the first day")
    last = skills(week.life.brains.run_dir(acting.brain))
    print(f"week: it knows {last}; {100 * max(0.0, first.lost(last)):.1f} % lost; memory "
          f"{growth_mb:+.1f} MB after the first day", flush=True)
    if first.lost(last) > MAX_LOSS:
        faults.append(f"{first} has become {last}")
    return faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--days", type=int, default=7, choices=range(2, 1000), metavar="N",
                        help="2 or more, as the first is not judged")
    parser.add_argument("--run-dir", type=Path, help="a new directory, which is kept")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        faults = live(args.days, args.run_dir or Path(folder))
    print(f"week: {'FAILED: ' + '; '.join(faults) if faults else 'all is well'}")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
