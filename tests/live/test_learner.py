"""A learner's process as its parent has it: it follows the pace, makes its own copies, continues
when it was stopped, and never holds up the parent. No test depends on how fast the machine is."""
import json
import os
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from seed.live import learn
from seed.live import learner as module
from seed.live.brains import FIRST, Brains
from seed.live.learn import MID, PLAN, SLOW, Plan, forget, has_begun, log_of, read_plan, work_of
from seed.live.learner import MAX_RETRY_S, RETRY_S, STOP_S, Learner
from seed.live.lived import Position
from seed.runtime.recording import step_line
from seed.storage import RunDir
from tests.support.fake_clock import FakeClock

MAX_S = 120
PLAN_OF_PARENT = Plan("parent", 1.0, 1000, 0.03)
RUNS = SimpleNamespace(must_stop=False, may_run=True)


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Makes a learner that runs a command in place of its own; its clock and lines."""
    clock, lines = FakeClock(), list[str]()

    def make(*command: str, kind=MID, every_ticks=6000) -> Learner:
        monkeypatch.setattr(module, "learner_command", lambda *what: list(command))
        return Learner(tmp_path, kind, every_ticks, 1, lines.append, clock)
    return make, clock, lines


def begin(live_dir: Path, kind: str = MID) -> Path:
    """As a learner that has all its copies."""
    plan = work_of(live_dir, kind).path / PLAN
    plan.parent.mkdir()
    plan.write_text(json.dumps(PLAN_OF_PARENT._asdict()))
    return plan


def wait(is_true_fn) -> None:
    ends_s = time.monotonic() + MAX_S
    while not is_true_fn():
        assert time.monotonic() < ends_s
        time.sleep(0.01)


def wait_for(process, states: str) -> None:
    path = Path(f"/proc/{process.pid}/stat")
    wait(lambda: path.read_text().rpartition(")")[2].split()[0] in states)


def result_of(learner: Learner) -> learn.Candidate | None:
    """When it has ended."""
    process = learner._process
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    return learner.result()


def test_it_follows_the_pace_and_continues_when_it_was_stopped(made, tmp_path):
    make, clock, _ = made
    learner, plan, follows = make("sleep", "1000"), begin(tmp_path), SimpleNamespace(
        must_stop=False, may_run=True)
    learner.start(PLAN_OF_PARENT, 0)
    process = learner._process
    assert not learner.is_due(10 ** 9)   # one at a time
    for follows.may_run, states in ((True, "SR"), (False, "T"), (False, "T"), (True, "SR"),
                                    (False, "T")):
        learner.follow(follows)
        wait_for(process, states)
    follows.must_stop = True
    learner.follow(follows)
    assert result_of(learner) is None and process.returncode == -signal.SIGTERM
    assert plan.exists() and not learner.is_due(10 ** 9)
    clock.now += RETRY_S
    assert learner.is_due(1)   # it continues as soon as it may


def test_what_it_learns_of_a_body_that_has_changed_is_abandoned_without_a_wait(made, tmp_path):
    make, _, lines = made
    learner, plan = make("sleep", "1000"), begin(tmp_path)
    learner.start(PLAN_OF_PARENT, 0)
    process = learner._process
    learner.follow(SimpleNamespace(must_stop=False, may_run=False))
    wait_for(process, "T")
    learner.abandon(10 ** 9)
    assert learner.is_running   # whose end may take as long as a disk does
    plan.write_text("{}")       # in its last moment
    assert result_of(learner) is None and process.returncode == -signal.SIGKILL
    assert not plan.exists() and not learner.is_running and not lines
    assert not learner.is_due(10 ** 9 + 5999) and learner.is_due(10 ** 9 + 6000)


def test_one_that_does_not_end_is_killed(made, tmp_path):
    make, clock, _ = made
    learner = make(sys.executable, "-c", "import signal, time; signal.signal(signal.SIGTERM, "
                   "signal.SIG_IGN); print(flush=True); time.sleep(1000)", kind=SLOW)
    begin(tmp_path, SLOW)
    learner.start(PLAN_OF_PARENT, 0)
    process = learner._process
    wait(lambda: os.fstat(learner._output.fileno()).st_size)   # it ignores the signal now
    learner.ask_to_stop()
    learner.follow(RUNS)
    assert process.poll() is None
    clock.now += STOP_S + 1
    learner.follow(RUNS)
    assert result_of(learner) is None and process.returncode == -signal.SIGKILL
    assert Learner(tmp_path, SLOW, 10, 1, print).is_due(0)   # as it has begun


@pytest.mark.parametrize("is_asked", [True, False])
def test_one_that_cannot_run_for_long_is_started_less_and_less_often(made, is_asked):
    """As where memory is short whenever it runs, or the robot rests for moments only."""
    make, clock, lines = made
    learner, waits = make("sleep", "1000"), []
    for ran_s in (5, 5, 59, 5, 300, 5, 5000, *[5] * 8):
        learner.start(PLAN_OF_PARENT, 0)
        clock.now += ran_s
        if is_asked:
            learner.ask_to_stop()
        else:
            learner._process.kill()   # as the kernel does
        assert result_of(learner) is None
        learner.next_ticks = 0
        began_s, step_s = clock.now, 1.0
        while not learner.is_due(1):
            clock.now += step_s
        waits.append(clock.now - began_s)
    assert waits[:8] == [RETRY_S, 2 * RETRY_S, 4 * RETRY_S, 8 * RETRY_S, MAX_RETRY_S, MAX_RETRY_S,
                         RETRY_S, 2 * RETRY_S]
    assert waits[-2:] == [MAX_RETRY_S] * 2 and bool(lines) != is_asked


def test_a_candidate_is_taken_whatever_it_has_started_and_the_next_may_begin_at_once(made):
    """A compiler or a user's class may hold its output open after its end."""
    make, clock, _ = made
    candidate = learn.Candidate("brain", "parent")._asdict()
    learner = make(sys.executable, "-c", f"""
import subprocess
child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
print(child.pid)
print({json.dumps(candidate)!r})""")
    learner.start(PLAN_OF_PARENT, 7)
    learner._retry_s = MAX_RETRY_S
    os.waitid(os.P_PID, learner._process.pid, os.WEXITED | os.WNOWAIT)
    child = int(os.pread(learner._output.fileno(), 100, 0).split()[0])
    try:
        assert learner.result() == learn.Candidate("brain", "parent")
        os.kill(child, 0)   # it is still there
    finally:
        os.kill(child, signal.SIGKILL)
    assert not learner.is_due(6006) and learner.is_due(6007)
    learner.start(PLAN_OF_PARENT, 6007)
    learner._process.kill()
    result_of(learner)
    clock.now += RETRY_S
    assert learner.is_due(10 ** 9)   # as one that ran well before


@pytest.fixture
def lived(tmp_path, brains) -> tuple[Path, Plan]:
    """A live directory with two files of an episode each, and a plan to learn of the newer."""
    live_dir, source = tmp_path / "live", RunDir(tmp_path / "source")
    source.path.mkdir()
    source.checkpoint.write_bytes(b"checkpoint")
    source.exported_brain.write_bytes(brains.first.read_bytes())
    stored = Brains(live_dir)
    stored.promote(stored.add(source), FIRST)
    (live_dir / "episodes").mkdir()
    (live_dir / "episodes/metadata.json").write_text("{}")
    for number in range(2):
        (live_dir / f"episodes/episodes-0000{number}.jsonl").write_text(
            step_line([0.5], True, 1, 1.0) + step_line([0.25], False))
    return live_dir, Plan(stored.promoted.brain, 0.1, 1, 0.03)


def test_it_makes_its_copies_itself(lived, monkeypatch):
    """They are files of some hundred MB, of a disk that others write to."""
    def refuse(*what):
        raise AssertionError("the parent waits for a disk")
    monkeypatch.setattr(learn, "prepare", refuse)
    live_dir, plan = lived
    learner, work = Learner(live_dir, MID, 6000, 1, print), work_of(live_dir)
    learner.start(plan, 0)
    candidate = result_of(learner)
    assert "checkpoint" in candidate.reason and candidate.is_finished   # it is no real one
    assert read_plan(work) == plan and work.checkpoint.read_bytes() == b"checkpoint"
    assert [path.name for path in (work.path / "episodes").glob("*.jsonl")] == [
        "episodes-00001.jsonl"]
    assert log_of(live_dir, MID).exists()


def test_one_that_has_nothing_to_learn_of_says_so_and_is_tried_again(lived):
    live_dir, plan = lived
    for path in (live_dir / "episodes").glob("*.jsonl"):
        path.unlink()
    lines = list[str]()
    learner = Learner(live_dir, MID, 6000, 1, lines.append, FakeClock())
    learner.start(plan, 0)
    assert result_of(learner) is None and not has_begun(live_dir, MID)
    assert lines == [f"nothing is learnt now: {live_dir}/episodes has no episode yet"]
    learner._clock.now += RETRY_S
    assert not learner.is_due(5999) and learner.is_due(6000)


def test_the_slow_loop_remembers_nothing_of_before_the_last_change(lived, monkeypatch):
    """Though the note on the disk is older than that."""
    live_dir, plan = lived
    (live_dir / "surprise.json").write_text(json.dumps({
        "means": {"episodes-00000.jsonl": 9.0}, "changed_at": ["", 0]}))
    monkeypatch.setattr(learn, "learn", lambda *what: learn.Candidate("", plan.parent))
    for since, n_files in ((Position("episodes-00001.jsonl"), 1), (Position(), 2)):
        forget(live_dir, SLOW)
        learn.run(live_dir, SLOW, plan._replace(since=since), 1)
        copies = work_of(live_dir, SLOW).path / "episodes"
        assert len(list(copies.glob("*.jsonl"))) == n_files
