"""From what was lived to a candidate, and through the gate.

    python -m seed.live.learn DIR mid|slow|base PLAN

A process of its own, which is stopped and continued as the fast loop's deadlines allow, killed at
any moment, and started again: the training resumes from its last checkpoint. It works on copies,
which it makes itself, as no disk may hold up the process that looks after the fast loop; what acts
is not touched. PLAN is one as JSON; the last line of the output is a Candidate as JSON.

The mid loop adapts the tables of the body to the newest ticks (seed/training/adapt_body.py), the
slow loop trains all weights on everything (consolidate.py). A base is a brain that was trained in
the run directory since the last one: nothing is trained here, what was learnt is carried over.
"""
import argparse
import json
import math
import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from seed.errors import (BodyError, CheckpointError, ConfigError, Diverged, ExportError,
                         NotEnoughMemory, StopReason)
from seed.live.brains import Brains
from seed.live.lived import Memory, Position, copy_newest, files_of
from seed.regular_file import read_json
from seed.runtime import BrainError
from seed.storage import RunDir, atomic_file, replay
from seed.storage.run_dir import Log

MID, SLOW, RENEWED = "mid", "slow", "base"
WORK = {MID: "learning", SLOW: "consolidation", RENEWED: "renewal"}   # within the live directory
EPISODES, PLAN, BASE = "episodes", "plan.json", "base.safetensors"
QUIET = ["governor.thermal=false"]   # the parent looks at the board, and stops this process


class Plan(NamedTuple):
    """What a learner is to do."""
    parent: str           # the brain that acts when it begins
    minutes: float        # of training
    max_ticks: int        # the newest, of which it learns
    max_loss: float       # of what was known
    grow_to: str = ""     # a profile, towards whose size the brain grows by one step
    own_ticks: int = 0    # the newest of them, in which the parent acted
    base: str = ""        # the checkpoint of the run directory, if that is the candidate
    min_ticks: int = 1    # or it waits for more
    since: Position = Position()         # what was recorded before is of another body
    own_since: Position | None = None    # the parent acts; it gives own_ticks when all is copied

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "Plan":
        """Of JSON. Raises TypeError."""
        plan = cls(**fields)
        return plan._replace(since=Position(*plan.since),
                             own_since=plan.own_since and Position(*plan.own_since))


class Candidate(NamedTuple):
    """`brain` is empty if nothing came of it; `reason` then says why, and is empty if it passed.
    `parent`: the brain that it was judged beside; `plane`: what became of what was learnt before.
    One that is not finished and has a reason could not begin."""
    brain: str
    parent: str
    data: str = ""                              # digest of the episodes
    reason: str = ""
    figures: tuple[dict[str, Any], ...] = ()
    is_finished: bool = True                    # False: it was stopped, and continues when started
    loop: str = MID
    plane: str = ""


def work_of(live_dir: Path, kind: str = MID) -> RunDir:
    return RunDir(live_dir / WORK[kind])


def has_begun(live_dir: Path, kind: str) -> bool:
    return (work_of(live_dir, kind).path / PLAN).exists()


def forget(live_dir: Path, kind: str) -> None:
    """The next learner of this kind begins anew."""
    (work_of(live_dir, kind).path / PLAN).unlink(missing_ok=True)


def read_plan(work: RunDir) -> Plan:
    """Raises OSError, ValueError, TypeError."""
    return Plan.from_dict(read_json(work.path / PLAN))


def log_of(live_dir: Path, kind: str) -> Path:
    """Of what it tells; beside its copies, which it makes anew."""
    return live_dir / f"{WORK[kind]}.log"


def prepare(live_dir: Path, kind: str, plan: Plan, memory: Memory) -> None:
    """A copy of the parent and of the episodes of the newest ticks as they are now, for the slow
    loop also of the most surprising ones; unless that has been done: by the mid loop for the same
    parent, by the slow one for any. A new base is copied from the run directory, and beside it the
    base before. The plan is the last that is written, and the first that is removed. Raises
    OSError, ConfigError."""
    work, brains = work_of(live_dir, kind), Brains(live_dir)
    try:
        begun = read_plan(work)
        if kind == SLOW or kind == MID and begun.parent == plan.parent:
            return
    except (OSError, ValueError, TypeError):
        pass   # there is none, or its copy was cut off
    atomic_file.remove(work.path / PLAN)
    shutil.rmtree(work.path, ignore_errors=True)
    atomic_file.make_directory(work.path / EPISODES)
    parent = brains.run_dir(plan.parent).checkpoint
    source = Path(plan.base or parent)
    replay.copy(RunDir(source.parent), source, work)
    atomic_file.copy(source, work.checkpoint)
    if kind != MID:
        atomic_file.copy(brains.base if plan.base else parent, work.path / BASE)
    folder = work.path / EPISODES
    n, own_ticks = copy_newest(memory.folder, folder, plan.max_ticks, memory.changed_at,
                               plan.own_since)
    if n < plan.min_ticks:
        raise ConfigError(f"{memory.folder} has " + (
            f"{n} ticks of the body as it is now: {plan.min_ticks} are needed" if n else
            "no episode yet"))
    if kind == SLOW:
        n_bytes = sum(path.stat().st_size for path in files_of(folder))
        for path in memory.surprising(n_bytes):
            if not (folder / path.name).exists():
                with suppress(FileNotFoundError):   # it is no longer among those that stay
                    atomic_file.copy(path, folder / path.name)
    plan = plan._replace(own_ticks=own_ticks)
    atomic_file.write(work.path / PLAN, json.dumps(plan._asdict()).encode())


def run(live_dir: Path, kind: str, plan: Plan, threads: int) -> Candidate:
    """Prepares unless that has been done, then learns. Raises OSError."""
    memory = Memory(live_dir / EPISODES, math.inf)
    memory.forget_before(plan.since)   # the note on the disk may be older
    try:
        prepare(live_dir, kind, plan, memory)
    except (OSError, ConfigError) as error:
        return Candidate("", plan.parent, reason=str(error), is_finished=False, loop=kind)
    return learn(live_dir, kind, threads)


def learn(live_dir: Path, kind: str = MID, threads: int = 1) -> Candidate:
    """Trains the copy, unless it is a new base, exports it, and judges it beside the brain that
    acts. Raises OSError."""
    work, brains = work_of(live_dir, kind), Brains(live_dir)
    plan = read_plan(work)

    def log(line: str) -> None:
        print(line, file=sys.stderr, flush=True)
    try:
        if kind == SLOW:
            from seed.live.consolidate import consolidate
            candidate, new = consolidate(work, brains, plan, threads, log)
        elif kind == RENEWED:
            from seed.live.plane import carried
            candidate, new = carried(work, brains, RENEWED, log)
        else:
            candidate, new = Candidate("", plan.parent), work
            candidate = candidate._replace(is_finished=_adapt(work, plan, threads, log))
        return (_judged(new, brains, work.path / EPISODES, plan, candidate, threads, log)
                if candidate.is_finished else candidate)
    except (BrainError, BodyError, CheckpointError, ConfigError, Diverged, ExportError,
            NotEnoughMemory) as error:
        return Candidate("", plan.parent, reason=str(error), loop=kind)


def _adapt(work: RunDir, plan: Plan, threads: int, log: Log) -> bool:
    """Whether it has finished; otherwise it was stopped."""
    from seed.training import adapt_to_body
    train = adapt_to_body(work, data=str(work.path / EPISODES), threads=threads, log=log,
                          minutes=plan.minutes, overrides=QUIET).train
    return train is None or train.reason is StopReason.FINISHED


def _judged(new: RunDir, brains: Brains, data: Path, plan: Plan, candidate: Candidate,
            threads: int, log: Log) -> Candidate:
    """With its figures, and the name that it has among the brains if it passes."""
    from seed.body.episodes import EpisodeFolder
    from seed.evaluation import TrainedBrain
    from seed.export import build
    from seed.live import gate
    better_in = {MID: gate.LIVED, SLOW: gate.ANYTHING, RENEWED: gate.NOTHING}[candidate.loop]
    before = TrainedBrain.load(brains.run_dir(candidate.parent), threads, log)
    after = TrainedBrain.load(new, threads, log)
    build(new, log=log, check_rate=after.has_rate)
    own_ticks = plan.own_ticks if candidate.parent == plan.parent else 0
    verdict = gate.judge(before, after, EpisodeFolder(data).body, data, plan.max_loss, better_in,
                         own_ticks)
    return candidate._replace(
        brain=brains.add(new) if not verdict.reason else "", data=verdict.data,
        reason=verdict.reason, figures=tuple(row._asdict() for row in verdict.figures))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("live_dir", type=Path)
    parser.add_argument("kind", choices=WORK)
    parser.add_argument("plan", type=lambda text: Plan.from_dict(json.loads(text)))
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    threads = min(args.threads, len(os.sched_getaffinity(0)))   # the fast loop's core is not there
    candidate = run(args.live_dir, args.kind, args.plan, threads)
    print(json.dumps(candidate._asdict()), flush=True)


if __name__ == "__main__":
    main()
