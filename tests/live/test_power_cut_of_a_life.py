"""What is left of a live directory when the power is cut at any moment of a decision, of a state's
saving, of a recording, and of a learner's beginning."""
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from seed.body.episodes import EpisodeFolder
from seed.live import carried_state
from seed.live.brains import ACTS, CUT, Brains
from seed.live.learn import MID, has_begun, read_plan, work_of
from seed.runtime.sealed_file import describe, read
from tests.support import power_cut
from tests.support.preloaded import build_library

START = """
import sys
from pathlib import Path
from seed.live import brains as module
from seed.live.brains import Brains, Decision
from seed.storage import RunDir
root, source = Path(sys.argv[1]), Path(sys.argv[2])
def say(*words):
    print(*words, flush=True)
def run_dir(name):
    run_dir = RunDir(source / name)
    run_dir.path.mkdir(exist_ok=True)
    run_dir.checkpoint.write_bytes(b"checkpoint")
    run_dir.exported_brain.write_bytes((source / f"{name}.tflite").read_bytes())
    return run_dir
brains = Brains(root / "live")
brains.settle()
names = [brains.add(run_dir(name)) for name in ("first", "second", "grown")]
brains.promote(names[0], module.FIRST)
say("acts", 1)
"""
DECIDE = """
figure = {"name": "point", "unit": "return", "before": 1.0, "after": 2.0}
brains.promote(names[1], data="d", figures=(figure,), bounds={"least_return": 1.0})
say("acts", 2)
brains.tell(Decision(module.CONFIRMED, names[1], names[0], 2))
brains.promote(names[2])
say("acts", 3)
brains.roll_back("it falls")
say("acts", 4)
"""
SAVE = """
from seed.live import carried_state
for i in (1, 2):
    carried_state.keep(b"%d" % i * 3000, "s" * 32, root / "state")
    say("saved", i)
"""
RECORD = """
from seed.runtime import Brain
from seed.runtime import recording
recording.PERIOD_S = 0.01
import time
brain = Brain(source / "first.tflite")
for _ in range(2):
    brain.record(root / "live/episodes", "cartpole")
    for episode in range(3):
        brain.begin("cartpole")
        for _ in range(20):
            brain.act([0.1] * 4, 1.0)
        brain.end([0.1] * 4, 1.0, is_terminal=True)
        time.sleep(0.05)
    brain.record(None, "cartpole")
    say("recorded")
"""
PREPARE = RECORD.replace("range(2)", "range(1)") + """
from seed.live.learn import MID, Plan, prepare
from seed.live.lived import Memory
for name in names[:2]:
    if name != names[0]:   # what was copied for one is no copy for the next
        say("again")
        brains.promote(name)
    prepare(root / "live", MID, Plan(name, 1.0, 1000, 0.03), Memory(root / "live/episodes", 1e9))
    say("begun")
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> Path:
    return build_library("recorder.c", tmp_path_factory.mktemp("library"))


def check(script: str, is_kept_fn: Callable[[Path, str], bool], tmp_path, library, brains,
          count: int = 60) -> None:
    """`is_kept_fn(folder, told)` of each state of the disk."""
    root = tmp_path / "root"
    root.mkdir()
    disk, changes, code = power_cut.record(
        [sys.executable, "-c", f"{START}\n{script}", str(root), str(brains.first.parent)], root,
        library, tmp_path / "log", cwd=Path(__file__).parents[2])
    assert code == 0, "".join(change.data.decode() for change in changes if not change.path)
    states = power_cut.states(disk, changes, count, seed=1)
    assert len(states) > 10
    for i, state in enumerate(states):
        state.write(tmp_path / f"{i}")
        assert is_kept_fn(tmp_path / f"{i}", state.told), state


def acts_as_told(folder: Path, told: str) -> bool:
    """The brain of the last decision that was told acts, or one that followed; its file is whole;
    the lineage leads to it, without a gap; a second start changes nothing."""
    brains = Brains(folder / "live")
    brains.settle()
    generation = brains.promoted.generation if brains.promoted else 0
    if brains.promoted:
        describe(read(brains.file(brains.promoted.brain)), "brain")
    rows, number = brains.lineage.rows, 0
    for row in rows:
        if row.decision in ACTS:
            assert row.generation == number + 1 and row.time
        if row.decision in (*ACTS, CUT):
            number = row.generation
    again = Brains(folder / "live")
    again.settle()
    assert again.lineage.rows == rows and again.promoted == brains.promoted
    return number == generation >= max([0, *map(int, told.replace("acts", "").split())])


def test_the_last_promoted_brain_acts_after_any_power_cut(tmp_path, library, brains):
    check(DECIDE, acts_as_told, tmp_path, library, brains, 120)


@pytest.mark.parametrize("fault", [
    "brains._point = lambda name, promoted: (root / 'live' / name).write_text("
    "__import__('json').dumps(promoted._asdict()))", "brains._write = lambda decision: None"])
def test_a_decision_that_is_not_on_the_disk_is_seen(tmp_path, library, brains, fault):
    with pytest.raises(Exception):
        check(f"{fault}\n{DECIDE}", acts_as_told, tmp_path, library, brains)


def test_a_state_is_the_old_or_the_new_one(tmp_path, library, brains):
    def is_whole(folder: Path, told: str) -> bool:
        path, n = folder / "state", told.count("saved")
        return not n and not path.exists() or path.read_bytes() in [
            carried_state.MAGIC + b"s" * 32 + b"\n" + b"%d" % i * 3000 for i in (1, 2)[n // 2:]]
    check(SAVE, is_whole, tmp_path, library, brains)


def test_what_was_recorded_can_be_read(tmp_path, library, brains):
    def is_readable(folder: Path, told: str) -> bool:
        episodes = folder / "live/episodes"
        if not list(episodes.glob("*.jsonl")):
            return "recorded" not in told
        steps = list(EpisodeFolder(episodes).steps())
        return sum(step.is_terminal for step in steps) >= 3 * told.count("recorded")
    check(RECORD, is_readable, tmp_path, library, brains, 120)


def test_a_learner_that_has_begun_has_all_that_it_needs(tmp_path, library, brains):
    def is_ready(folder: Path, told: str) -> bool:
        if not has_begun(folder / "live", MID):
            return told.split()[-1:] != ["begun"]
        work = work_of(folder / "live")
        if told.split()[-1:] == ["begun"]:
            assert read_plan(work).parent == Brains(folder / "live").promoted.brain
        return (work.checkpoint.read_bytes() == b"checkpoint" and sum(
            step.is_terminal for step in EpisodeFolder(work.path / "episodes").steps()) == 3)
    check(PREPARE, is_ready, tmp_path, library, brains, 120)
