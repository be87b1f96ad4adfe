"""The governor's decisions through the real loop, on a simulated board."""
import io

import pytest

from seed.config import GovernorConfig
from seed.governor import FIRMWARE_S, PAUSE, RUN, STOP
from seed.storage import RunDir, checkpoint
from seed.storage.metrics import StatusLine
from seed.system_health import Health
from seed.training.loop import train
from seed.training.stop_signals import StopSignals
from seed.training.throttle import Throttle
from tests.support.counting_learner import metric_rows, small_profile
from tests.support.fake_board import FakeBoard, WarmingLearner, health
from tests.support.fake_clock import FakeClock

CONFIG = GovernorConfig()


def run(tmp_path, board: FakeBoard, steps=600, **more):
    worker = WarmingLearner(board)
    result = train(small_profile(f"train.steps={steps}", "train.eval_every_minutes=0"),
                   RunDir(tmp_path), worker, StopSignals(), clock=board.clock, look=more.get("look", board.look),
                   wait=board.wait)
    return result, worker


def test_a_bare_board_in_the_loop_stays_below_the_pause_threshold_and_learns_the_same(tmp_path):
    (tmp_path / "hot").mkdir()
    (tmp_path / "cool").mkdir()
    hot, cool = FakeBoard(FakeClock(), hot=89.0), FakeBoard(FakeClock(), hot=60.0)
    result, worker = run(tmp_path / "hot", hot)
    assert result.finished
    one_reading = 2 * 0.5 / hot.tau * (89 - 80) + 0.55
    assert 75 < max(hot.seen) < CONFIG.pause_c + one_reading
    changes = metric_rows(tmp_path / "hot", "governor")
    minutes = hot.clock.now / 60
    assert 1 <= len(changes) <= 4 * minutes  # heating and cooling by 5 C takes 10 s and more
    assert all(row["reason"] for row in changes if row["action"] != RUN)
    run(tmp_path / "cool", cool)
    assert not metric_rows(tmp_path / "cool", "governor")
    assert hot.clock.now > 1.1 * cool.clock.now
    names = [RunDir(folder).checkpoint for folder in (tmp_path / "hot", tmp_path / "cool")]
    assert names[0].read_bytes() == names[1].read_bytes()


def alternations(seen) -> int:
    """How often the readings went all the way between all is well and too warm."""
    far = [t >= CONFIG.slow_c for t in seen if t is not None and not
           CONFIG.resume_c < t < CONFIG.slow_c]
    return sum(a != b for a, b in zip([False, *far], far))


# name: (hot C at a time, what a look shows at a time and temperature, a word of the reasons, saves)
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


@pytest.mark.parametrize("trace", TRACES)
def test_a_trace_through_the_loop_keeps_its_limits_and_the_bits(tmp_path, trace):
    """The loop's own metrics are the witness; the undisturbed run is one on a cool board."""
    hot, shown, says, saves = TRACES[trace]
    board = FakeBoard(FakeClock(), hot=0.0)
    believable = []

    def look() -> Health:
        board.hot = hot(board.clock.now)
        found = shown(board.clock.now, board.look().temp_c.value)
        if found.temp_c.value is not None and 0 < found.temp_c.value < 130:
            believable.append(found.temp_c.value)
        return found
    (tmp_path / "trace").mkdir()
    (tmp_path / "cool").mkdir()
    result, _ = run(tmp_path / "trace", board, 2400, look=look)
    assert result.finished
    run(tmp_path / "cool", FakeBoard(FakeClock(), hot=60.0), 2400)
    files = [RunDir(tmp_path / name).checkpoint for name in ("trace", "cool")]
    assert files[0].read_bytes() == files[1].read_bytes()
    changes = metric_rows(tmp_path / "trace", "governor")
    assert any(says in row["reason"] for row in changes), changes
    assert sum(row["save"] for row in changes) == saves
    one_reading = 1.5 * max(0, hot(0) - CONFIG.pause_c) / board.tau + 0.55
    assert max(believable) <= CONFIG.pause_c + one_reading
    kinds = [row["action"] for row in changes]
    held = 2 * board.clock.now / FIRMWARE_S if "firmware" in trace else 0
    assert len(kinds) <= 2 * alternations(believable) + 4 + held, kinds


def test_a_slowed_run_trains_for_its_share_of_the_time(tmp_path):
    board = FakeBoard(FakeClock(), hot=60.0)
    run(tmp_path, board, 40, look=lambda: health(77.5))
    assert board.clock.now == pytest.approx(40 * 0.5 / 0.75)


def test_a_board_that_is_too_hot_even_at_rest_waits_until_it_is_told_to_stop(tmp_path):
    board, requests = FakeBoard(FakeClock(), hot=95.0, idle=82.0, start=85.0), StopSignals()

    def wait(seconds):
        board.pass_time(seconds, board.idle)
        if board.clock.now > 300:
            requests.stop.set()
    result = train(small_profile("train.steps=50"), RunDir(tmp_path), WarmingLearner(board), requests,
                   clock=board.clock, look=board.look, wait=wait)
    assert result.step == 0 and not result.finished
    assert [row["action"] for row in metric_rows(tmp_path, "governor")] == [PAUSE]


class Examined(WarmingLearner):
    """As on a small board: a forward pass takes a second, and warms it too."""

    def forward(self, t, tokens):
        self.board.pass_time(1.0, self.board.hot)
        return super().forward(t, tokens)


@pytest.mark.parametrize("look, least_s", [(lambda board: board.look(), 60),
                                           (lambda board: health(60, int(board.clock.now) % 4), 0)],
                         ids=["heat", "flickering under-voltage"])
def test_an_examination_goes_on_through_pauses_and_saves(tmp_path, look, least_s):
    """Begun anew after each of them it would never end."""
    board = FakeBoard(FakeClock(), hot=120.0, start=79.0)
    worker = Examined(board)
    limit = 3000.0

    def seen() -> Health:
        assert board.clock.now < limit
        return look(board)
    result = train(small_profile("train.steps=20", "curriculum.holdout_items=64"),
                   RunDir(tmp_path), worker, StopSignals(), clock=board.clock, look=seen, wait=board.wait)
    assert result.finished and result.scores
    paused = [row for row in metric_rows(tmp_path, "governor") if row["step"] == 20]
    assert len(paused) >= 1 and board.clock.now > least_s
    assert len(metric_rows(tmp_path, "save")) <= 3 + board.clock.now / 60


def test_a_slowed_run_is_slowed_in_its_examination_too(tmp_path):
    board = FakeBoard(FakeClock(), hot=60.0)
    worker = Examined(board)
    train(small_profile("train.steps=4"), RunDir(tmp_path), worker, StopSignals(), clock=board.clock,
          look=lambda: health(77.5), wait=board.wait)
    assert board.clock.now > 15 and board.waited_s == pytest.approx(board.clock.now / 4, abs=1)


def test_a_paused_run_saves_when_it_is_asked_or_due_and_says_that_it_waits(tmp_path):
    board, requests, asked = FakeBoard(FakeClock(), hot=95.0, idle=85.0, start=50.0), StopSignals(), []

    def wait(seconds):
        board.pass_time(seconds, board.idle)
        if board.clock.now > 400 and not asked:
            asked.append(requests.save.set())
        if board.clock.now > 800:
            requests.stop.set()
    out = io.StringIO()
    result = train(small_profile("train.steps=500", "train.save_every_minutes=3"), RunDir(tmp_path),
                   WarmingLearner(board), requests, clock=board.clock, look=board.look, wait=wait,
                   status=StatusLine(board.clock, out))
    assert not result.finished and 0 < result.step < 500
    assert [row["step"] for row in metric_rows(tmp_path, "save")] == [0, result.step, result.step]
    assert f"step {result.step}  paused, 8" in out.getvalue()


def test_memory_pressure_in_the_loop_saves_and_the_next_run_goes_on(tmp_path):
    board = FakeBoard(FakeClock(), hot=60.0)
    looks = iter([health()] * 5 + [health(rss=9000.0)])
    result, _ = run(tmp_path, board, 40, look=lambda: next(looks))
    assert not result.finished and result.retry and 0 < result.step < 40
    assert checkpoint.read(RunDir(tmp_path).checkpoint).meta["step"] == result.step
    assert run(tmp_path, board, 40)[0].step == 40


def test_under_voltage_in_the_loop_writes_a_checkpoint_at_once(tmp_path):
    board = FakeBoard(FakeClock(), hot=60.0)
    looks = iter([health()] * 3 + [health(bits=1)] + [health()] * 99)
    run(tmp_path, board, 40, look=lambda: next(looks))
    saves = [row["step"] for row in metric_rows(tmp_path, "save")]
    row = next(row for row in metric_rows(tmp_path, "governor") if row["save"])
    assert saves == [0, row["step"], 40] and 0 < row["step"] < 40


def test_work_without_anything_to_save_waits_while_the_board_is_hot_and_ends_when_told():
    temps, clock, slept = iter([50.0, 90.0, 90.0, 50.0]), FakeClock(), []

    def wait(seconds: float) -> None:
        slept.append(seconds)
        clock.now += seconds
    pace = Throttle(CONFIG, lambda: health(next(temps, 50.0)), clock, wait)
    assert pace.goes_on(lambda: False) and not slept
    clock.now += 60
    assert pace.goes_on(lambda: False) and len(slept) >= 2 and pace.decision.action == RUN
    clock.now += 60
    assert not pace.goes_on(lambda: True)
    full = Throttle(CONFIG, lambda: health(rss=9000.0), clock, wait)
    assert not full.goes_on(lambda: False) and full.decision.action == STOP
