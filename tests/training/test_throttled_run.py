"""The governor's decisions through the real loop, on a simulated board."""
import io
from threading import Event

import pytest

from seed.config import GovernorConfig
from seed.errors import StopReason
from seed.governor import FIRMWARE_S, PAUSE, RUN, STOP
from seed.evaluation import exact_match
from seed.storage import RunDir, checkpoint
from seed.terminal.screen import Screen
from seed.system_health import Health
from seed.training import loop
from seed.training.session import Hooks
from seed.training.stop_signals import StopSignals
from seed.training.throttle import Throttle
from tests.support.counting_learner import metric_rows, small_profile
from tests.support.fake_board import FakeBoard, WarmingLearner, health
from tests.support.fake_clock import FakeClock

CONFIG = GovernorConfig()


def run(folder, board: FakeBoard, *overrides: str, learner=None, signals=None, **hooks):
    """Of a profile with one easy task: the time of the test goes to the board, not to items."""
    hooks = {"read_health_fn": board.read_health, "sleep_fn": board.sleep, **hooks}
    profile = small_profile("curriculum.tasks={copy=1.0}", "train.eval_every_minutes=0", *overrides)
    return loop.run(profile, RunDir(folder), learner or WarmingLearner(board),
                    signals or StopSignals(), Hooks(board.clock, **hooks))


def cool_board() -> FakeBoard:
    return FakeBoard(FakeClock(), hot=60.0)


def test_a_hot_board_stays_below_the_pause_threshold_and_trains_the_same_bits(tmp_path):
    hot, cool = FakeBoard(FakeClock(), hot=89.0), cool_board()
    for name, board in (("hot", hot), ("cool", cool)):
        (tmp_path / name).mkdir()
        assert run(tmp_path / name, board, "train.steps=600").finished
    one_reading_c = 2 * 0.5 / hot.tau * (89 - 80) + 0.55
    assert 75 < max(hot.seen) < CONFIG.pause_c + one_reading_c
    changes = metric_rows(tmp_path / "hot", "governor")
    minutes = hot.clock.now / 60
    assert 1 <= len(changes) <= 4 * minutes  # heating and cooling by 5 C takes 10 s and more
    assert all(row["reason"] for row in changes if row["action"] != RUN)
    assert not metric_rows(tmp_path / "cool", "governor")
    assert hot.clock.now > 1.1 * cool.clock.now
    paths = [RunDir(tmp_path / name).checkpoint for name in ("hot", "cool")]
    assert paths[0].read_bytes() == paths[1].read_bytes()


def alternations(seen) -> int:
    """How often the readings went all the way between cool and too warm."""
    far = [t >= CONFIG.slow_c for t in seen if t is not None and not
           CONFIG.resume_c < t < CONFIG.slow_c]
    return sum(a != b for a, b in zip([False, *far], far))


# name: (hot C at a time, health at a time and temperature, words of a reason, saves)
TRACES = {
    "a bare board": (lambda s: 89, lambda s, c: health(c), "75.", 0),
    "a board in the sun": (lambda s: 125, lambda s, c: health(c), "resumes at 70 C", 0),
    "a fan kicks in": (lambda s: 89 if s < 120 else 62, lambda s, c: health(c), "75.", 0),
    "the sensor freezes": (lambda s: 60, lambda s, c: health(c if s < 60 else 58.3),
                           "has read 58.3 C", 0),
    "the sensor vanishes": (lambda s: 60, lambda s, c: health(c if s < 60 else None),
                            "input/output error", 0),
    "the sensor jumps": (lambda s: 89, lambda s, c: health((c, -45.0, c, 180.0)[int(s / 7) % 4]),
                         "the sensor reads 180 C", 0),
    "the firmware throttles": (lambda s: 74, lambda s, c: health(c, bits=4 * (c > 70)),
                               "throttled", 0),
    "under-voltage": (lambda s: 60, lambda s, c: health(c, bits=50 <= s < 90), "under-voltage", 1)}


TRACE_STEPS = 2400


@pytest.fixture(scope="module")
def undisturbed_bits(tmp_path_factory) -> bytes:
    folder = tmp_path_factory.mktemp("cool")
    run(folder, cool_board(), f"train.steps={TRACE_STEPS}")
    return RunDir(folder).checkpoint.read_bytes()


@pytest.mark.parametrize("trace", TRACES)
def test_a_trace_keeps_the_temperature_limits_and_the_bits(tmp_path, undisturbed_bits, trace):
    """The loop's own metrics are the witness."""
    hot, health_at, reason, saves = TRACES[trace]
    board = FakeBoard(FakeClock(), hot=0.0)
    plausible = []

    def read_health() -> Health:
        board.hot = hot(board.clock.now)
        shown = health_at(board.clock.now, board.read_health().temp_c.value)
        if shown.temp_c.value is not None and 0 < shown.temp_c.value < 130:
            plausible.append(shown.temp_c.value)
        return shown
    assert run(tmp_path, board, f"train.steps={TRACE_STEPS}", read_health_fn=read_health).finished
    assert RunDir(tmp_path).checkpoint.read_bytes() == undisturbed_bits
    changes = metric_rows(tmp_path, "governor")
    assert any(reason in row["reason"] for row in changes), changes
    assert sum(row["save"] for row in changes) == saves
    one_reading_c = 1.5 * max(0, hot(0) - CONFIG.pause_c) / board.tau + 0.55
    assert max(plausible) <= CONFIG.pause_c + one_reading_c
    by_firmware = 2 * board.clock.now / FIRMWARE_S if "firmware" in trace else 0
    assert len(changes) <= 2 * alternations(plausible) + 4 + by_firmware, changes


def test_a_slowed_run_trains_for_its_duty_of_the_time(tmp_path):
    board = cool_board()
    run(tmp_path, board, "train.steps=40", read_health_fn=lambda: health(77.5))
    assert board.clock.now == pytest.approx(40 * 0.5 / 0.75)


def test_a_board_that_is_too_hot_even_at_rest_waits_until_a_signal_stops_the_run(tmp_path):
    board, signals = FakeBoard(FakeClock(), hot=95.0, idle=82.0, start=85.0), StopSignals()

    def sleep(seconds):
        board.sleep(seconds)
        if board.clock.now > 300:
            signals.stop.set()
    result = run(tmp_path, board, "train.steps=50", signals=signals, sleep_fn=sleep)
    assert (result.step, result.reason) == (0, StopReason.STOPPED)
    assert [row["action"] for row in metric_rows(tmp_path, "governor")] == [PAUSE]


@pytest.fixture
def short_passes(monkeypatch):
    """So that an evaluation has many."""
    monkeypatch.setattr(exact_match, "MAX_PASS_BYTES", 160)


class SlowToEvaluate(WarmingLearner):
    """As on a small board: a forward pass takes a second, and warms it too."""

    def forward(self, tokens, cu_seqlens):
        self.board.pass_time(1.0, self.board.hot)
        return super().forward(tokens, cu_seqlens)


@pytest.mark.parametrize("health_of, min_s", [
    (lambda board: board.read_health(), 60),
    (lambda board: health(60, int(board.clock.now) % 4), 0)],
    ids=["heat", "flickering under-voltage"])
def test_an_evaluation_continues_through_pauses_and_saves(tmp_path, short_passes, health_of, min_s):
    """If each of them began it anew, it would never end."""
    board = FakeBoard(FakeClock(), hot=120.0, start=79.0)

    def read_health() -> Health:
        assert board.clock.now < 3000
        return health_of(board)
    result = run(tmp_path, board, "train.steps=20",
                 "curriculum.tasks={copy=1.0,add=1.0,parity=1.0}", "curriculum.holdout_items=256",
                 learner=SlowToEvaluate(board), read_health_fn=read_health)
    assert result.finished and result.scores
    assert any(row["step"] == 20 for row in metric_rows(tmp_path, "governor"))
    assert board.clock.now > min_s
    assert len(metric_rows(tmp_path, "save")) <= 3 + board.clock.now / 60


def test_a_slowed_run_is_slowed_in_its_evaluation_too(tmp_path, short_passes):
    board = cool_board()
    run(tmp_path, board, "train.steps=4", "curriculum.holdout_items=64",
        learner=SlowToEvaluate(board), read_health_fn=lambda: health(77.5))
    assert board.clock.now > 15 and board.waited_s == pytest.approx(board.clock.now / 4, abs=1)


def test_a_paused_run_saves_when_that_is_requested_or_due_and_shows_that_it_waits(tmp_path):
    board, signals, requests = FakeBoard(FakeClock(), hot=95.0, idle=85.0), StopSignals(), []

    def sleep(seconds):
        board.sleep(seconds)
        if board.clock.now > 400 and not requests:
            requests.append(signals.save.set())
        if board.clock.now > 800:
            signals.stop.set()
    out = io.StringIO()
    result = run(tmp_path, board, "train.steps=500", "train.save_every_minutes=3", signals=signals,
                 sleep_fn=sleep, screen=Screen(board.clock, out))
    assert not result.finished and 0 < result.step < 500
    assert [row["step"] for row in metric_rows(tmp_path, "save")] == [0, result.step, result.step]
    assert f"step {result.step}/500  paused, cpu-thermal 8" in out.getvalue()


def test_memory_pressure_saves_and_stops_and_the_next_run_resumes(tmp_path):
    readings = iter([health()] * 5 + [health(rss=9000.0)])
    result = run(tmp_path, cool_board(), "train.steps=40", read_health_fn=lambda: next(readings))
    assert result.reason is StopReason.OUT_OF_MEMORY and 0 < result.step < 40
    assert checkpoint.read(RunDir(tmp_path).checkpoint).meta["step"] == result.step
    assert run(tmp_path, cool_board(), "train.steps=40").step == 40


def test_the_status_shows_the_memory_and_temperature_that_the_governor_acts_on(tmp_path):
    board, out = cool_board(), io.StringIO()
    run(tmp_path, board, "train.steps=40", read_health_fn=lambda: health(61.0, rss=1234.0),
        screen=Screen(board.clock, out))
    assert "  1234 MB  61 C" in out.getvalue()


def test_under_voltage_saves_at_once(tmp_path):
    readings = iter([health()] * 3 + [health(bits=1)] + [health()] * 99)
    run(tmp_path, cool_board(), "train.steps=40", read_health_fn=lambda: next(readings))
    saves = [row["step"] for row in metric_rows(tmp_path, "save")]
    row = next(row for row in metric_rows(tmp_path, "governor") if row["save"])
    assert saves == [0, row["step"], 40] and 0 < row["step"] < 40


def test_work_that_saves_nothing_waits_while_the_board_is_hot_and_ends_when_it_has_to_stop():
    temps, clock, slept = iter([50.0, 90.0, 90.0, 50.0]), FakeClock(), []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock.now += seconds
    stop = Event()
    throttle = Throttle(CONFIG, lambda: health(next(temps, 50.0)), clock, sleep, stop.is_set)
    assert not throttle.wait_while_paused() and not slept
    clock.now += 60
    assert not throttle.wait_while_paused()
    assert len(slept) >= 2 and throttle.decision.action == RUN
    clock.now += 60
    stop.set()
    assert throttle.wait_while_paused()
    full = Throttle(CONFIG, lambda: health(rss=9000.0), clock, sleep, lambda: False)
    assert full.wait_while_paused() and full.decision.action == STOP
    assert full.wait_while_paused()   # the loop asks again before the next poll
