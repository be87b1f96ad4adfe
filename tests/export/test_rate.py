"""A file that is too slow for the loop of its profile is refused, by a clock of the test's."""
import json
from itertools import count

import numpy as np
import pytest

from seed.__main__ import main
from seed.config import LoopConfig
from seed.errors import ConfigError
from seed.export import build
from seed.export.brain_file import BrainFile, Options
from seed.runtime import Brain, BrainError, TickTimes, TooSlow, describe, rate as rate_module
from seed.runtime.rate import MIN_TICKS, PAUSE_S, TICKS, WARM_UP_TICKS, time_ticks
from seed.runtime.sealed_file import DESCRIBED
from seed.storage import RunDir
from tests.support import brains
from tests.support.descriptions import described
from tests.support.fake_clock import FakeClock
from tests.support.tflite import SMALL

LOOP = ["loop.rate_hz=100", "loop.max_tick_ms=5"]


class Board:
    """Its n-th tick takes the n-th time, its clock stands still otherwise."""

    def __init__(self, times_s):
        self.clock, self.times_s, self.ticks, self.pauses = FakeClock(), times_s, 0, set()

    def tick(self) -> None:
        self.ticks += 1
        self.clock.now += self.times_s[self.ticks % len(self.times_s)]

    def measure(self, rate_hz: float = 100.0, max_tick_ms: float = 5.0) -> TickTimes:
        return time_ticks(self.tick, rate_hz, max_tick_ms, self.clock, self.pauses.add)


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory) -> RunDir:
    folder = tmp_path_factory.mktemp("loop")
    brains.untrained(folder, "toy", *SMALL, *LOOP)
    return RunDir(folder)


@pytest.fixture
def measured(monkeypatch):
    """What the next ticks of a file take, in ms."""
    def set_ms(p99_ms: float) -> None:
        monkeypatch.setattr(rate_module, "time_ticks", lambda tick_fn, rate_hz, max_tick_ms, *_:
                            TickTimes(rate_hz, max_tick_ms, p99_ms, TICKS))
    return set_ms


@pytest.mark.parametrize("late, is_kept", [(4, True), (6, False)])
def test_one_tick_in_a_hundred_may_take_longer_than_the_loop_allows(late, is_kept):
    board = Board([0.004] * (TICKS - late) + [0.006] * late)
    times = board.measure()
    assert board.ticks == TICKS + WARM_UP_TICKS and times.ticks == TICKS
    assert times.is_kept == is_kept
    assert times.p99_ms == pytest.approx(4 if is_kept else 6)


def test_ticks_have_pauses_as_in_a_loop_and_a_slow_brain_takes_fewer():
    board = Board([0.2])
    assert board.measure(1.0, 500.0).ticks == MIN_TICKS and board.pauses == {PAUSE_S}
    board = Board([0.0001])
    board.measure(1000.0, 1.0)
    assert board.pauses == {0.001}


def test_a_file_has_the_loop_of_its_profile_and_without_one_nothing_of_it(run_dir, brain):
    trained = brains.trained(run_dir.checkpoint)
    description = describe(BrainFile(trained, Options()).tobytes(), "")
    loop = {"rate_hz": 100.0, "max_tick_ms": 5.0}
    assert description["loop"] == description["profile"]["loop"] == loop
    description = describe(BrainFile(brain, Options()).tobytes(), "")
    assert brain.profile.loop == LoopConfig()
    assert "loop" not in description and "loop" not in description["profile"]


def test_a_brain_checks_its_rate_and_begins_anew(run_dir, tmp_path):
    path = brains.exported(brains.trained(run_dir.checkpoint), tmp_path / "f")
    file, fresh = Brain(path), Brain(path)
    file.step(65)
    assert file.loop == {"rate_hz": 100.0, "max_tick_ms": 5.0}
    times = file.check_rate(FakeClock(), lambda pause_s: None)
    assert times == TickTimes(100.0, 5.0, 0.0, TICKS)
    assert np.array_equal(file.step(66), fresh.step(66))
    calls = count()
    with pytest.raises(TooSlow) as error:
        file.check_rate(lambda: 0.0071 * next(calls), lambda pause_s: None)
    assert str(error.value) == (
        f"{path} is too slow here: a tick takes 7.1 ms (99th percentile of {TICKS}), its loop of "
        f"100 Hz allows 5 ms; export it with --int8, use a smaller one, or end other programs")


def test_a_brain_without_a_loop_has_no_rate_to_check(brain, tmp_path):
    file = Brain(brains.exported(brain, tmp_path / "f"))
    with pytest.raises(BrainError, match="is for no loop: export a brain whose profile has a"):
        file.check_rate()


@pytest.mark.parametrize("loop", [{}, 3, [], {"rate_hz": 100}, {"rate_hz": 0, "max_tick_ms": 5},
                                  {"rate_hz": True, "max_tick_ms": 5},
                                  {"rate_hz": 100, "max_tick_ms": float("nan")}])
def test_a_file_with_a_loop_that_is_none_is_refused(run_dir, tmp_path, loop):
    path = brains.exported(brains.trained(run_dir.checkpoint), tmp_path / "f")
    path.write_bytes(described(path.read_bytes(), {"loop": loop}))
    with pytest.raises(BrainError, match="has a wrong description of its loop: export it again"):
        Brain(path)


@pytest.mark.parametrize("rate_hz", [0, None, "50", True, float("inf")])
def test_a_file_with_a_wrong_rate_of_a_body_is_refused(rate_hz):
    codec = {"channels": [{"low": 0, "high": 1, "is_log": False, "knots": 2}], "actions": [[0, 1]],
             "form": "index", "shape": [1]}
    body = {"codec": codec, "returns": [0, 1], "rate_hz": 50.0, "hidden": 0}
    assert DESCRIBED["bodies"]({"arm": body})
    assert not DESCRIBED["bodies"]({"arm": {**body, "rate_hz": rate_hz}})


def test_a_file_that_is_too_slow_is_not_written(run_dir, tmp_path, measured, capsys):
    out = tmp_path / "out.tflite"
    command = ["export", "--no-verify", "--check-rate", f"--run-dir={run_dir}", f"--out={out}"]
    measured(7.1)
    assert main(command) == 2 and not out.exists()
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"seed: {out} was not written: a tick takes 7.1 ms (99th percentile of {TICKS}), its loop "
        f"of 100 Hz allows 5 ms; export with --int8 or --target litert, train a smaller profile, "
        f"or end other programs")
    measured(4.9)
    assert main(command) == 0 and out.exists()
    assert "its loop of 100 Hz allows 5 ms" in capsys.readouterr().out
    checked = out.read_bytes()
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ticks"] == {
        "rate_hz": 100.0, "max_tick_ms": 5.0, "p99_ms": 4.9, "ticks": TICKS}
    build(run_dir, out=out, verified=False)
    assert out.read_bytes() == checked   # what was measured is not in the file


def test_a_rate_is_only_checked_for_a_profile_that_has_one(tmp_path):
    brains.untrained(tmp_path, "toy", *SMALL)
    with pytest.raises(ConfigError, match="--check-rate: the profile toy is for no loop"):
        build(RunDir(tmp_path), check_rate=True)
