"""From the newest episodes to a candidate, and through the gate.

    python -m seed.live.learn DIR

A process of its own, which is stopped and continued as the fast loop's deadlines allow, killed at
any moment, and started again: the adaptation resumes from its last checkpoint. It works on copies;
what acts is not touched. The last line of its output is a Candidate as JSON.
"""
import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any, NamedTuple

from seed.errors import BodyError, CheckpointError, ConfigError, ExportError, StopReason
from seed.live.brains import Brains
from seed.live.lived import copy_newest
from seed.regular_file import read_json
from seed.runtime import BrainError
from seed.storage import RunDir, atomic_file

WORK, EPISODES, PLAN = "learning", "episodes", "plan.json"
MAX_TICKS = 30_000   # the newest ones, of which a candidate learns


class Candidate(NamedTuple):
    """`brain` is empty if nothing came of it; `reason` then says why, and is empty if it passed."""
    brain: str
    parent: str
    data: str = ""                              # digest of the episodes
    reason: str = ""
    figures: tuple[dict[str, Any], ...] = ()
    is_finished: bool = True                    # False: it was stopped, and continues when started


def work_of(live_dir: Path) -> RunDir:
    return RunDir(live_dir / WORK)


def prepare(live_dir: Path, parent: str, episodes: Path, newest: int = MAX_TICKS) -> None:
    """A copy of the parent and of the episodes of the `newest` ticks as they are now, unless one
    has been begun. Raises OSError, ConfigError."""
    work, brains = work_of(live_dir), Brains(live_dir)
    try:
        if read_json(work.path / PLAN)["parent"] == parent:
            return
    except (OSError, ValueError, KeyError, TypeError):
        pass   # there is none, or its copy was cut off
    shutil.rmtree(work.path, ignore_errors=True)
    atomic_file.make_directory(work.path / EPISODES)
    atomic_file.copy(brains.run_dir(parent).checkpoint, work.checkpoint)
    if not copy_newest(episodes, work.path / EPISODES, min(newest, MAX_TICKS)):
        raise ConfigError(f"{episodes} has no episode yet")
    atomic_file.write(work.path / PLAN, json.dumps({"parent": parent}).encode())


def learn(live_dir: Path, minutes: float) -> Candidate:
    """Adapts the copy, exports it, and judges it beside its parent, in one thread. Raises OSError.
    """
    from seed.body.episodes import EpisodeFolder
    from seed.evaluation import TrainedBrain
    from seed.export import build
    from seed.live.gate import judge
    from seed.training import adapt_to_body
    work, brains = work_of(live_dir), Brains(live_dir)
    parent, data = str(read_json(work.path / PLAN)["parent"]), work.path / EPISODES

    def log(line: str) -> None:
        print(line, file=sys.stderr, flush=True)
    try:
        result = adapt_to_body(work, data=str(data), log=log, minutes=minutes)
        if result.train and result.train.reason is not StopReason.FINISHED:
            return Candidate("", parent, is_finished=False)
        before = TrainedBrain.load(brains.run_dir(parent), log=log)
        after = TrainedBrain.load(work, log=log)
        build(work, log=log, check_rate=bool(after.profile.loop.rate_hz))
        verdict = judge(before, after, EpisodeFolder(data).body, data)
    except (BrainError, BodyError, CheckpointError, ConfigError, ExportError) as error:
        return Candidate("", parent, reason=str(error))
    figures = tuple(row._asdict() for row in verdict.figures)
    name = brains.add(work) if not verdict.reason else ""
    return Candidate(name, parent, verdict.data, verdict.reason, figures)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("live_dir", type=Path)
    parser.add_argument("--minutes", type=float, default=2.0)
    args = parser.parse_args()
    candidate = learn(args.live_dir, args.minutes)
    print(json.dumps(candidate._asdict()), flush=True)


if __name__ == "__main__":
    main()
