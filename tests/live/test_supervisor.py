"""A brain lives: real processes of the fast loop, and learners that end in what a test needs. No
test depends on how fast the machine is."""
import errno
import json
import os
import re
import signal
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from seed.errors import ConfigError
from seed.live import learner as learner_module
from seed.live import pace, supervisor
from seed.governor import Decision
from seed.live.brains import FIRST, Brains
from seed.live.learn import MID, RENEWED, SLOW
from seed.live.safety import State
from seed.live.status import LiveStatus
from seed.live.supervisor import Live, LiveOptions
from seed.profile_file import load_profile
from seed.storage import RunDir
from tests.support.brains import untrained

ROOT = Path(__file__).parents[2]
MAX_S = 120
ROBOT = '''
from pathlib import Path
class Robot:
    """Its rewards fall while a file is there; an episode has five ticks."""
    rate_hz, observation_space, action_space, safe_action = 50, [(-1.0, 1.0)] * 4, 2, 1
    def reset(self, seed=None):
        self.ticks = 0
        return [0.0] * 4, {}
    def step(self, action):
        self.ticks += 1
        reward = -1.0 if (Path(__file__).parent / "falls").exists() else 1.0
        return [0.1] * 4, reward, False, self.ticks >= 5, {}
'''


@pytest.fixture
def life(tmp_path, brains, monkeypatch):
    """A life with a first brain, its lines, and the result of the next learner as it prints it."""
    (tmp_path / "robot.py").write_text(ROBOT)
    run_dir, lines, results = RunDir(tmp_path / "run"), list[str](), list[dict]()
    profile = load_profile("control", ["live.learn_every_ticks=10", "live.watch_ticks=20",
                                       f"governor.report_file={tmp_path}/report.json",
                                       "live.rest_every_ticks=10", "governor.thermal=false"])
    options = LiveOptions(run_dir, f"{tmp_path}/robot.py:Robot", profile,
                          loop={"brain_body": "cartpole"})
    stored = Brains(options.live_dir)
    names = []
    for file in (brains.first, brains.second):
        source = RunDir(tmp_path / file.stem)
        source.path.mkdir()
        source.checkpoint.write_bytes(b"checkpoint")
        source.exported_brain.write_bytes(file.read_bytes())
        names.append(stored.add(source))
    stored.promote(names[0], FIRST)
    monkeypatch.setattr(learner_module, "learner_command", lambda *what: [
        sys.executable, "-c", f"print({json.dumps(results.pop(0))!r})" if results else
        "raise SystemExit(3)"])
    monkeypatch.setattr(pace, "decide_by_deadlines", lambda config, deadlines: Decision())
    monkeypatch.setattr(learner_module, "RETRY_S", 0.0)
    monkeypatch.setattr(supervisor, "MIN_TICKS", 0)

    @contextmanager
    def living():
        live = Live(options, lines.append)
        live.start()
        try:
            yield live
        finally:
            live.stop()
    return living, names, lines, results, tmp_path


def until(live, lines, text: str) -> str:
    """The first new line with that text."""
    seen, ends_s = len(lines), time.monotonic() + MAX_S
    while not any(text in line for line in lines[seen:]):
        assert time.monotonic() < ends_s, (lines, live.loop.block.words())
        live.poll()
        if live.loop.block["state"] == State.LATCHED:   # on a machine that is too busy
            live.loop.clear()
        time.sleep(0.02)
    return next(line for line in lines[seen:] if text in line)


def candidate(brain: str, parent: str, **fields) -> dict:
    return {"brain": brain, "parent": parent, "data": "d", "reason": "", "figures": [],
            "is_finished": True, **fields}


def test_candidates_are_refused_promoted_confirmed_and_rolled_back(life):
    living, (first, second), lines, results, folder = life
    with living() as live:
        until(live, lines, "ended (3) without a candidate")
        results.append(candidate("", first, reason="it is not better", figures=[
            {"name": "cartpole", "unit": "return", "before": 2.0, "after": 1.0}]))
        until(live, lines, "refused: it is not better")
        results.append(candidate(second, "another"))
        until(live, lines, "refused: another brain acts meanwhile")
        live.brains.file(second).rename(folder / "hidden")
        results.append(candidate(second, first))
        assert "No such file" in until(live, lines, "of the mid loop is refused")
        (folder / "hidden").rename(live.brains.file(second))
        append, live.brains.lineage.append = live.brains.lineage.append, lambda rows, objects: False
        results.append(candidate(second, first))
        until(live, lines, "is not on the disk")   # as where that is full: the loop acts on
        live.brains.lineage.append = append
        assert live.brains.promoted.brain == first and live.loop.brain.path == str(
            live.brains.file(first))
        results.append(candidate(second, first))
        until(live, lines, f"{second} of the mid loop acts now")
        until(live, lines, f"brain {second} is confirmed")
        live.watch._watch_ticks = 10 ** 9   # until it falls
        results.append(candidate(first, second))
        until(live, lines, f"{first} of the mid loop acts now")
        (folder / "falls").touch()
        assert "has fallen" in until(live, lines, "rolled back") or "ended below" in lines[-1]
        assert live.brains.promoted.brain == second
        (folder / "falls").unlink()
    with living() as live:   # what acted last acts again
        assert live.loop.brain_path == live.brains.file(second)
        rows = [(row.decision, row.brain) for row in live.brains.lineage.rows]
    assert rows == [("first", first), ("refused", ""), ("refused", second), ("refused", second),
                    ("promoted", second), ("confirmed", second), ("promoted", first),
                    ("rolled back", second)]


def has_lived(live, episodes: int) -> None:
    """So many in which nothing has held the brain back."""
    ends_s = time.monotonic() + MAX_S
    while len(live.watch.returns) < episodes:
        assert time.monotonic() < ends_s
        live.poll()
        if live.loop.block["state"] == State.LATCHED:   # on a machine that is too busy
            live.loop.block["clear"] += 1
        time.sleep(0.02)


def promoted(life, live) -> None:
    """The second brain acts, and is watched until it falls."""
    _, (first, second), lines, results, _ = life
    live.watch._watch_ticks = 10 ** 9
    has_lived(live, 4)
    results.append(candidate(second, first))
    until(live, lines, f"{second} of the mid loop acts now")


def test_a_watch_outlives_its_process_and_a_roll_back_a_full_disk(life, monkeypatch):
    living, (first, second), lines, _, folder = life
    with living() as live:
        promoted(life, live)
        bounds = live.watch.bounds
        assert bounds.least_return == 5.0
    with living() as live:
        assert lines[-1] == f"brain {second} is still watched" and live.watch.bounds == bounds
        live.watch._watch_ticks = 10 ** 9
        append, live.brains.lineage.append = live.brains.lineage.append, lambda rows, objects: False
        (folder / "falls").touch()
        until(live, lines, "rolled back: ")
        until(live, lines, "is not on the disk")
        assert live.loop.brain_path == live.brains.file(first) and not live.brains.is_written
        assert Brains(live.options.live_dir).promoted.brain == first   # what acts after a power cut
        live.brains.lineage.append = append
        monkeypatch.setattr(supervisor, "FLUSH_S", 0.0)
        live._flush_at_s = 0.0
        live.poll()
        assert live.brains.is_written and live.brains.lineage.rows[-1].decision == "rolled back"


def test_a_roll_back_is_decided_though_the_disk_has_no_room_for_anything_else(life, monkeypatch):
    living, (first, _), lines, _, folder = life

    def full() -> int:
        raise OSError(errno.ENOSPC, "No space left on device", "surprise.json")
    with living() as live:
        promoted(life, live)
        monkeypatch.setattr(live.memory, "trim", full)
        monkeypatch.setattr(supervisor, "TRIM_S", 0.0)   # at each look
        live._trim_at_s = 0.0
        (folder / "falls").touch()
        until(live, lines, "rolled back: ")
        assert live.brains.promoted.brain == first
        assert ("which episodes stay is not on the disk: surprise.json: No space left on device; "
                "free some space") in lines


def test_a_candidate_waits_until_what_was_decided_before_is_on_the_disk(life, monkeypatch):
    living, (first, second), lines, results, _ = life
    monkeypatch.setattr(supervisor, "FLUSH_S", 0.0)
    with living() as live:
        append, live.brains.lineage.append = live.brains.lineage.append, lambda rows, objects: False
        results.append(candidate("", first, reason="it is no better"))
        until(live, lines, "is refused: it is no better")
        results.append(candidate(second, first))
        ends_s = time.monotonic() + MAX_S
        while results or live.learners[MID].is_running:
            assert time.monotonic() < ends_s
            live.poll()
            time.sleep(0.02)
        live.brains.lineage.append = append
        until(live, lines, f"{second} of the mid loop acts now")
        assert [row.decision for row in live.brains.lineage.rows] == [
            "first", "refused", "promoted"]


def test_a_watched_brain_whose_process_ends_is_rolled_back(life):
    living, (first, second), lines, _, _ = life
    with living() as live:
        promoted(life, live)
        os.kill(live.loop.brain.process.pid, signal.SIGKILL)
        assert "brain ended" in until(live, lines, "rolled back: ")
        assert live.loop.brain.path == str(live.brains.file(first))   # it was still warm
        assert live.brains.promoted.brain == first


def test_the_slow_loop_learns_while_the_robot_rests_and_is_told_apart(life):
    living, (first, second), lines, results, folder = life
    report = folder / "report.json"

    def says(**fields) -> None:
        (folder / "new").write_text(json.dumps({"level": "ok", **fields}))
        (folder / "new").rename(report)
    says(idle=False)
    figure = {"name": "cartpole", "unit": "return", "before": 2.0, "after": 2.0, "margin": 0.1}
    with living() as live:
        live.learners[MID].next_ticks = 10 ** 9
        results.append(candidate("", first, loop=SLOW, reason="nothing", figures=[figure]))
        for _ in range(50):
            live.poll()
            time.sleep(0.02)
        assert len(results) == 1 and not live.pace.is_idle
        says(idle=True)
        until(live, lines, "a candidate of the slow loop is refused: nothing")
        assert live._plan(SLOW).grow_to == live.config.grow_to == ""
        object.__setattr__(live.config, "grow_to", "seed")
        assert live._plan(SLOW).grow_to == "seed" and live._plan(MID).grow_to == ""
        results.append(candidate(second, first, loop=SLOW, plane="carried", figures=[
            {**figure, "after": 3.0}]))
        assert "of the slow loop acts now; it is watched; carried" in until(live, lines, "acts now")
        assert live._plan(SLOW).grow_to == ""   # as this one was better
        row = live.brains.lineage.rows[-1]
        assert (row.loop, row.plane, row.decision) == (SLOW, "carried", "promoted")
        LiveStatus(live, lines.append).update()
        facts = json.loads(live.options.run_dir.status.read_text())
        assert {key: facts[key] for key in (
            "state", "brain", "generation", "promotions", "refusals", "idle", "learning")} == {
                "state": "living", "brain": second, "generation": 2, "promotions": 1, "refusals": 1,
                "idle": True, "learning": "watched"}
        page = (ROOT / "docs" / "board.md").read_text()
        assert [key for key in facts if f"`{key}`" not in page] == []
        assert facts["ticks"] > 0 and facts["memory_mb"] > 0 and facts["level"] == "ok"


def test_a_newer_brain_of_the_run_directory_is_judged_once(life):
    living, (first, second), lines, results, folder = life
    checkpoint = folder / "run" / "checkpoint.safetensors"
    checkpoint.write_bytes(b"old")
    with living() as live:
        live.brains.rest_on(checkpoint)
        has_lived(live, 1)
    checkpoint.write_bytes(b"new")
    with living() as live:
        assert "is newer: it is judged" in lines[-1]
        assert live._plan(RENEWED).base == str(checkpoint) and not live._plan(MID).base
        live.learners[MID].next_ticks = 10 ** 9
        results.append(candidate(second, "another", loop=RENEWED))
        until(live, lines, "of the run directory is refused: another brain acts meanwhile")
        assert live.brains.is_renewed(live.options.run_dir)
        live.learners[RENEWED].next_ticks = 0
        results.append(candidate(second, first, loop=RENEWED, plane="carried"))
        until(live, lines, f"{second} of the run directory acts now; it is watched; carried")
        assert live.brains.base.read_bytes() == b"new"
        until(live, lines, f"{second} is confirmed")
    n_lines = len(lines)
    with living() as live:
        live.learners[MID].next_ticks = 10 ** 9
        assert not live._is_renewed and not any("newer" in line for line in lines[n_lines:])


def test_what_learns_ends_first_when_memory_runs_out(life, monkeypatch):
    living, *_ = life
    monkeypatch.setattr(learner_module, "learner_command", lambda *what: ["sleep", "1000"])

    def score(pid) -> Path:
        return Path(f"/proc/{int(pid)}/oom_score_adj")
    before = score(os.getpid()).read_text()
    of_all = max(300, int(before))
    score(os.getpid()).write_text(str(of_all))   # as a unit's OOMScoreAdjust, in a test upwards
    try:
        with living() as live:
            ends_s = time.monotonic() + MAX_S
            while not live.learners[MID].is_running:
                assert time.monotonic() < ends_s
                live.poll()
                time.sleep(0.02)
            loop = live.loop
            assert [int(score(pid).read_text()) for pid in (
                loop.block["pid"], loop.brain.process.pid, loop.body.facts["pid"],
                live.learners[MID]._process.pid)] == [of_all, of_all, of_all, 1000]
    finally:
        score(os.getpid()).write_text(before)


@pytest.mark.parametrize("bodies, known", [((), ""), (("cartpole", "rover"), " (cartpole, rover)")])
def test_a_brain_that_cannot_act_in_the_body_is_refused_before_it_is_exported(
        tmp_path, monkeypatch, bodies, known):
    untrained(tmp_path / "run", "control", "body.rounds={}")
    monkeypatch.setattr(RunDir, "load_brain", lambda run_dir, log: SimpleNamespace(
        meta={"bodies": dict.fromkeys(bodies)}))
    monkeypatch.setattr("seed.export.build", lambda *arguments, **options: 1 / 0)
    with pytest.raises(ConfigError, match=rf"does not know the body pendulum{re.escape(known)}: "
                                          rf"train it with .*--body=pendulum"):
        Live(LiveOptions(RunDir(tmp_path / "run"), "pendulum", load_profile("control"))).start()
    assert not (tmp_path / "run/brain.tflite").exists()
