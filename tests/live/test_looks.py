"""What a supervisor makes of a look at its fast loop, without any process: what has changed, what
is learnt of, who fails."""
import json
import os
from types import SimpleNamespace

import pytest

from seed.errors import ConfigError
from seed.live.brains import FIRST, Brains
from seed.live.learn import MID, Candidate, forget, prepare, read_plan, work_of
from seed.live.lived import MAX_LAG_S, copy_newest
from seed.live.safety import Fault
from seed.live.supervisor import SAMPLE_TICKS, Live, LiveOptions
from seed.profile_file import load_profile
from seed.runtime.recording import step_line
from seed.storage import RunDir
from tests.support.fake_clock import FakeClock


@pytest.fixture
def begin(tmp_path, brains):
    """Begins a life with its first brain, whose fast loop does nothing."""
    options = LiveOptions(RunDir(tmp_path / "run"), "cartpole", load_profile(
        "control", ["live.learn_every_ticks=10", "governor.thermal=false"]))
    clock, source = FakeClock(), RunDir(tmp_path / "first")
    source.path.mkdir()
    source.checkpoint.write_bytes(b"checkpoint")
    source.exported_brain.write_bytes(brains.first.read_bytes())
    stored = Brains(options.live_dir)
    stored.promote(stored.add(source), FIRST)

    def begin() -> tuple[Live, list[str]]:
        lines: list[str] = []
        live = Live(options, lines.append, clock)
        live.loop = SimpleNamespace(block={"explore": 0}, brain=None, n_cleared=0)
        live.loop.clear = lambda: setattr(live.loop, "n_cleared", live.loop.n_cleared + 1)
        return live, lines
    return begin


def test_nothing_but_a_fault_fails_a_watched_brain(begin):
    """In one look: it is late for the second time, is lost, and another one starts."""
    live, _ = begin()
    live.watch.begin(0)
    late = {"fault": int(Fault.BRAIN_LATE), "text": "late", "is_latched": True, "generation": 1}
    reasons = [live._look_at_fault(event) for event in (
        late, late, {"text": "brain 2 acts", "acts": 2}, {"text": "a note"})]
    assert reasons == ["", "late", "", ""] and live.loop.n_cleared == 1


def test_brains_that_are_refused_do_not_stay(begin):
    """As where one is too slow, or the disk was full when it was to act."""
    live, lines = begin()
    first = live.brains.promoted.brain
    for number in range(6):
        live.brains.run_dir(f"old{number}").path.mkdir()
        os.utime(live.brains.run_dir(f"old{number}").path, (number, number))
    live._take(Candidate("old5", "another"), 0)
    assert "is refused: another brain acts meanwhile" in lines[-1]
    assert {path.name for path in (live.brains.path / "brains").iterdir()} == {
        first, "old4", "old5"}


def test_only_what_was_recorded_since_the_body_changed_is_learnt_also_in_the_next_life(begin):
    """In an episode that does not end; some ticks are not recorded, as on hold."""
    (live, lines), ticks = begin(), 500
    folder, clock = live.memory.folder, live._clock
    folder.mkdir()
    (folder / "metadata.json").write_text("{}")
    path = folder / "episodes-00000.jsonl"

    def lives(n_samples: int, surprise: float, is_recorded: bool = True) -> None:
        nonlocal ticks
        for _ in range(n_samples):
            ticks, clock.now = ticks + SAMPLE_TICKS, clock.now + MAX_LAG_S
            with open(path, "a") as file:
                for _ in range(2 * is_recorded):
                    file.write(step_line([surprise], not file.tell(), 1, 0.0))
            live.memory.look(surprise)
            live._look(ticks, surprise)

    def learns() -> tuple[int, int]:
        """Recorded ticks, and in how many of them the brain acted that acts now."""
        plan = live._plan(MID)
        return copy_newest(folder, folder.parent / "new", plan.max_ticks, plan.since,
                           plan.own_since)
    lives(20, 1.0)
    assert learns() == (40, 40)
    lives(20, 1.0, is_recorded=False)
    assert learns() == (40, 40)
    lives(12, 3.0)
    assert live.loop.block["explore"] and "the body has changed" in lines[-1]
    assert learns() == (20, 20)   # without the two samples within which it may have changed
    live.memory.trim()
    live, _ = begin()
    live.memory.look(1.0)
    assert learns() == (20, 0)
    lives(5, 3.0)
    assert learns() == (30, 10)
    rows = (folder.parent / "new" / path.name).read_text().splitlines()
    assert {json.loads(row)["observation"][0] for row in rows} == {3.0}

    plan = live._plan(MID)._replace(min_ticks=30)
    prepare(live.options.live_dir, MID, plan, live.memory)
    assert read_plan(work_of(live.options.live_dir)) == plan._replace(own_ticks=10)
    forget(live.options.live_dir, MID)
    with pytest.raises(ConfigError, match="has 30 ticks of the body as it is now: 31 are needed"):
        prepare(live.options.live_dir, MID, plan._replace(min_ticks=31), live.memory)


def test_the_body_changes_on_the_way_to_the_disk(begin):
    """What is lived is on the disk some seconds later: what is there when the surprise begins may
    all be of before."""
    live, _ = begin()
    live.memory.folder.mkdir()
    path, clock, sizes = live.memory.folder / "episodes-00000.jsonl", live._clock, list[int]()
    for sample in range(60):
        clock.now += MAX_LAG_S / 4   # as at 200 Hz
        with open(path, "a") as file:
            file.write(step_line([0.0], sample == 0, 1, 0.0))
        live.memory.look(1.0)
        sizes.append(live.memory.recorded.size)
        live._look(1000 + SAMPLE_TICKS * sample, 3.0 if sample >= 40 else 1.0)
    assert live.memory.changed_at == (path.name, sizes[44])


def test_what_a_brain_has_lived_while_it_tried_is_not_what_the_model_foretells(begin):
    live, _ = begin()
    live._changed_at = 0
    live.memory.look(1.0)
    live.loop.block["explore"] = 1
    for ticks, is_own in ((live.config.learn_ticks, True), (live.config.learn_ticks + 1, False)):
        live._look(ticks, float("nan"))
        assert (live.memory.own_since is not None) == is_own
    assert live.loop.block["explore"] == 0
