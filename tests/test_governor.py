"""The governor's decisions, alone and through the real loop on a simulated board."""
import io
from dataclasses import replace

import numpy as np
import pytest

from seed.config import GovernorConfig
from seed.governor import (FIRMWARE_S, MAX_UNCHANGED_S, PAUSE, RUN, SLOW, SLOW_DUTY, STOP,
                           UNKNOWN_DUTY, Cause, History, ceiling_mb, decide)
from seed.storage import RunDir
from seed.system_health import Health, Reading, Throttled
from seed.storage import checkpoint
from seed.training.loop import train
from seed.storage.metrics import StatusLine
from seed.training.throttle import Throttle
from seed.training.stop_signals import StopSignals
from tests.training.test_loop import Clock, Counter, lines, profile_of

CONFIG = GovernorConfig()


def health(temp_c=50.0, bits=0, rss=500.0, left=4000.0, cgroup=None) -> Health:
    """A board; temp_c None: the sensor cannot be read."""
    unknown = Reading(None, "input/output error")
    zone = Reading(temp_c) if temp_c is not None else unknown
    return Health("Raspberry Pi 5", {"cpu-thermal": zone}, Throttled(bits), unknown, unknown,
                  Reading(rss), Reading(rss), Reading(left), Reading(0.0),
                  Reading(cgroup) if cgroup else unknown, Reading(9e3), Reading(9e3))


def decisions(*looks: Health, seconds: float = 1.0):
    history, found = History(), []
    for i, one in enumerate(looks):
        decision, history = decide(CONFIG, history, one, i * seconds)
        found.append(decision)
    return found


def actions(*temps, **more) -> list[str]:
    return [d.action for d in decisions(*(health(t) for t in temps), **more)]


def test_heat_slows_then_pauses_and_goes_on_only_well_below():
    assert actions(60, 74.9, 76, 79, 80, 75, 71, 70) == \
        [RUN, RUN, SLOW, SLOW, PAUSE, PAUSE, PAUSE, RUN]
    assert actions(76, 74, 71, 69.9) == [SLOW, SLOW, SLOW, RUN]
    duties = [d.duty for d in decisions(health(75), health(77.5), health(79.9))]
    assert duties == pytest.approx([1.0, 0.75, 0.51])


@pytest.mark.parametrize("after, expected", [
    ([None] * 4, [RUN, RUN, SLOW, SLOW]), ([-40, 200, -40], [RUN, RUN, SLOW])])
def test_a_sensor_that_vanishes_or_talks_nonsense_is_doubted_then_unknown(after, expected):
    assert actions(60, *after) == [RUN, *expected]
    last = decisions(*(health(t) for t in (60, *after)))[-1]
    assert last.duty == UNKNOWN_DUTY and "temperature unknown" in last.reason


def test_a_sudden_fall_does_not_end_a_pause_until_it_lasts_but_a_rise_counts_at_once():
    assert actions(82, 30, 30, 30, 30) == [PAUSE, PAUSE, PAUSE, RUN, RUN]
    assert actions(82, 30, 81, 30, 30, 81) == [PAUSE] * 6
    assert actions(40, 85) == [RUN, PAUSE]


def test_a_frozen_sensor_is_not_believed_and_a_living_one_is_again():
    step = MAX_UNCHANGED_S / 2
    assert actions(60, 60, 60, 60, 61, seconds=step) == [RUN, RUN, RUN, SLOW, RUN]


def test_a_board_that_never_had_a_sensor_is_slowed_and_a_server_is_not():
    assert actions(None) == [SLOW]
    server = replace(health(), board="", zones_c={}, throttled=Throttled(None, "none"))
    assert decisions(server)[0].action == RUN
    bare = replace(server, board="Raspberry Pi 5")
    assert decisions(bare)[0] == (SLOW, UNKNOWN_DUTY, False,
                                  "temperature unknown: no thermal zone",
                                  Cause.UNKNOWN_TEMPERATURE)


def test_the_hottest_of_several_zones_counts():
    zones = {"nvme": Reading(None, "gone"), "gpu": Reading(82.0), "cpu-thermal": Reading(50.0)}
    assert decisions(replace(health(), zones_c=zones))[0].action == PAUSE


def zones(**temps) -> Health:
    """Each by its name; None: it cannot be read."""
    return replace(health(), zones_c={name: Reading(temp, "" if temp is not None else "gone")
                                      for name, temp in temps.items()})


def test_nonsense_of_one_zone_hides_no_other():
    assert [d.action for d in decisions(*[zones(gpu=200.0, cpu=89.0)] * 4)] == [PAUSE] * 4
    assert decisions(zones(gpu=200.0, cpu=50.0))[0].action == RUN   # it never said anything else


def test_a_zone_that_is_lost_beside_a_cool_one_is_not_taken_for_cool():
    looks = [zones(cpu=60.0, nvme=45.0), *[zones(cpu=None, nvme=45.0)] * 4,
             zones(nvme=45.0), zones(cpu=61.0, nvme=45.0)]
    found = decisions(*looks)
    assert [d.action for d in found] == [RUN, RUN, RUN, SLOW, SLOW, SLOW, RUN]
    assert found[4].reason == "temperature unknown: cpu: gone"
    assert found[5].reason == "temperature unknown: cpu: no longer listed"
    hot = decisions(*looks[:4], zones(cpu=None, nvme=79.0))[-1]
    assert hot.action == SLOW and hot.duty == pytest.approx(0.6)   # the lower of both


def test_a_frozen_zone_counts_as_lost_only_if_it_ever_moved():
    step = MAX_UNCHANGED_S / 2
    still = [zones(cpu=60.0, acpi=27.8 + (i == 0 and moves)) for moves in (0, 1) for i in range(5)]
    for i, one in enumerate(still):
        still[i] = replace(one, zones_c={**one.zones_c, "cpu": Reading(60.0 + i)})
    assert [d.action for d in decisions(*still[:5], seconds=step)] == [RUN] * 5
    assert [d.action for d in decisions(*still[5:], seconds=step)] == [RUN] * 4 + [SLOW]


def test_a_pause_lasts_when_its_sensor_is_lost_until_any_board_has_cooled():
    found = decisions(health(82), *[health(None)] * 12, seconds=30)
    assert [d.action for d in found] == [PAUSE] * 13
    assert "resumes 300 s after the sensor was lost" in found[5].reason
    found = decisions(health(82), *[health(None)] * 15, health(78), health(69), seconds=30)
    assert [d.action for d in found[12:]] == [PAUSE, SLOW, SLOW, SLOW, SLOW, RUN]
    back = decisions(health(82), *[health(None)] * 4, health(78), health(69), seconds=30)
    assert [d.action for d in back[5:]] == [PAUSE, RUN]   # the pause has not ended meanwhile


def test_the_firmware_s_own_bits_slow_a_board_that_seems_cool():
    for bits, says in ((1 << 2, "throttled"), (1 << 3, "soft temperature limit")):
        decision = decisions(health(60, bits))[0]
        assert decision.action == SLOW and decision.duty == SLOW_DUTY
        assert says in decision.reason
    assert decisions(health(60, 0xF << 16))[0].action == RUN  # since boot, not now


def test_the_firmware_s_report_counts_for_a_minute():
    found = decisions(*[health(60, bits) for bits in (0, 4, 0, 4, 0, 0, 0)], seconds=25)
    assert [d.action for d in found] == [RUN, SLOW, SLOW, SLOW, SLOW, SLOW, RUN]


def test_under_voltage_saves_when_it_begins_and_now_and_then_while_it_lasts():
    found = decisions(*[health(60, bits) for bits in (0, 1, 1, 1, 0, 1)], seconds=50)
    assert [d.save for d in found] == [False, True, False, False, False, True]
    assert "under-voltage" in found[1].reason and found[1].action == RUN
    again = decisions(*[health(60, 1)] * 5, seconds=100)
    assert [d.save for d in again] == [True, False, False, True, False]


def test_under_voltage_that_flickers_saves_once_a_minute():
    found = decisions(*[health(60, i % 2) for i in range(600)])
    assert sum(d.save for d in found) == 10


def test_memory_pressure_saves_and_stops():
    for one, says in ((health(rss=7000.0), "over the ceiling of 6144 MB"),
                      (health(left=150.0), "only 150 MB"),
                      (health(rss=960.0, cgroup=1000.0), "over the ceiling of 950 MB")):
        decision = decisions(one)[0]
        assert decision.action == STOP and decision.save and says in decision.reason
    assert ceiling_mb(CONFIG, health()) == 6144.0


class Board:
    """Heats towards `hot` while training, cools towards `idle`, with time constant tau seconds."""

    def __init__(self, clock: Clock, hot: float, idle=45.0, tau=40.0, start=50.0):
        self.clock, self.hot, self.idle, self.tau, self.temp = clock, hot, idle, tau, start
        self.seen, self.waited_s = [], 0.0

    def wait(self, seconds: float) -> None:
        self.pass_time(seconds, self.idle)
        self.waited_s += seconds

    def pass_time(self, seconds: float, target: float) -> None:
        self.temp = target + (self.temp - target) * np.exp(-seconds / self.tau)
        self.clock.now += seconds

    def look(self) -> Health:
        self.seen.append(self.temp)
        return health(round(self.temp / 0.55) * 0.55)  # the Pi's sensor has steps of 0.55 C


class Worker(Counter):
    """Takes half a second a step and warms the board."""

    def __init__(self, board: Board):
        super().__init__(board.clock)
        self.board, self.seconds = board, 0.0

    def step(self, batch, lr):
        self.board.pass_time(0.5, self.board.hot)
        return super().step(batch, lr)


def run(tmp_path, board: Board, steps=600, **more):
    worker = Worker(board)
    result = train(profile_of(f"train.steps={steps}", "train.eval_every_minutes=0"),
                   RunDir(tmp_path), worker, StopSignals(), clock=board.clock, look=more.get("look", board.look),
                   wait=board.wait)
    return result, worker


def test_a_bare_board_in_the_loop_stays_below_the_pause_threshold_and_learns_the_same(tmp_path):
    (tmp_path / "hot").mkdir()
    (tmp_path / "cool").mkdir()
    hot, cool = Board(Clock(), hot=89.0), Board(Clock(), hot=60.0)
    result, worker = run(tmp_path / "hot", hot)
    assert result.finished
    one_reading = 2 * 0.5 / hot.tau * (89 - 80) + 0.55
    assert 75 < max(hot.seen) < CONFIG.pause_c + one_reading
    changes = lines(tmp_path / "hot", "governor")
    minutes = hot.clock.now / 60
    assert 1 <= len(changes) <= 4 * minutes  # heating and cooling by 5 C takes 10 s and more
    assert all(row["reason"] for row in changes if row["action"] != RUN)
    run(tmp_path / "cool", cool)
    assert not lines(tmp_path / "cool", "governor")
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
    board = Board(Clock(), hot=0.0)
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
    run(tmp_path / "cool", Board(Clock(), hot=60.0), 2400)
    files = [RunDir(tmp_path / name).checkpoint for name in ("trace", "cool")]
    assert files[0].read_bytes() == files[1].read_bytes()
    changes = lines(tmp_path / "trace", "governor")
    assert any(says in row["reason"] for row in changes), changes
    assert sum(row["save"] for row in changes) == saves
    one_reading = 1.5 * max(0, hot(0) - CONFIG.pause_c) / board.tau + 0.55
    assert max(believable) <= CONFIG.pause_c + one_reading
    kinds = [row["action"] for row in changes]
    held = 2 * board.clock.now / FIRMWARE_S if "firmware" in trace else 0
    assert len(kinds) <= 2 * alternations(believable) + 4 + held, kinds


def test_a_slowed_run_trains_for_its_share_of_the_time(tmp_path):
    board = Board(Clock(), hot=60.0)
    run(tmp_path, board, 40, look=lambda: health(77.5))
    assert board.clock.now == pytest.approx(40 * 0.5 / 0.75)


def test_a_board_that_is_too_hot_even_at_rest_waits_until_it_is_told_to_stop(tmp_path):
    board, requests = Board(Clock(), hot=95.0, idle=82.0, start=85.0), StopSignals()

    def wait(seconds):
        board.pass_time(seconds, board.idle)
        if board.clock.now > 300:
            requests.stop.set()
    result = train(profile_of("train.steps=50"), RunDir(tmp_path), Worker(board), requests,
                   clock=board.clock, look=board.look, wait=wait)
    assert result.step == 0 and not result.finished
    assert [row["action"] for row in lines(tmp_path, "governor")] == [PAUSE]


class Examined(Worker):
    """As on a small board: a forward pass takes a second, and warms it too."""

    def forward(self, t, tokens):
        self.board.pass_time(1.0, self.board.hot)
        return super().forward(t, tokens)


@pytest.mark.parametrize("look, least_s", [(lambda board: board.look(), 60),
                                           (lambda board: health(60, int(board.clock.now) % 4), 0)],
                         ids=["heat", "flickering under-voltage"])
def test_an_examination_goes_on_through_pauses_and_saves(tmp_path, look, least_s):
    """Begun anew after each of them it would never end."""
    board = Board(Clock(), hot=120.0, start=79.0)
    worker = Examined(board)
    limit = 3000.0

    def seen() -> Health:
        assert board.clock.now < limit
        return look(board)
    result = train(profile_of("train.steps=20", "curriculum.holdout_items=64"),
                   RunDir(tmp_path), worker, StopSignals(), clock=board.clock, look=seen, wait=board.wait)
    assert result.finished and result.scores
    paused = [row for row in lines(tmp_path, "governor") if row["step"] == 20]
    assert len(paused) >= 1 and board.clock.now > least_s
    assert len(lines(tmp_path, "save")) <= 3 + board.clock.now / 60


def test_a_slowed_run_is_slowed_in_its_examination_too(tmp_path):
    board = Board(Clock(), hot=60.0)
    worker = Examined(board)
    train(profile_of("train.steps=4"), RunDir(tmp_path), worker, StopSignals(), clock=board.clock,
          look=lambda: health(77.5), wait=board.wait)
    assert board.clock.now > 15 and board.waited_s == pytest.approx(board.clock.now / 4, abs=1)


def test_a_paused_run_saves_when_it_is_asked_or_due_and_says_that_it_waits(tmp_path):
    board, requests, asked = Board(Clock(), hot=95.0, idle=85.0, start=50.0), StopSignals(), []

    def wait(seconds):
        board.pass_time(seconds, board.idle)
        if board.clock.now > 400 and not asked:
            asked.append(requests.save.set())
        if board.clock.now > 800:
            requests.stop.set()
    out = io.StringIO()
    result = train(profile_of("train.steps=500", "train.save_every_minutes=3"), RunDir(tmp_path),
                   Worker(board), requests, clock=board.clock, look=board.look, wait=wait,
                   status=StatusLine(board.clock, out))
    assert not result.finished and 0 < result.step < 500
    assert [row["step"] for row in lines(tmp_path, "save")] == [0, result.step, result.step]
    assert f"step {result.step}  paused, 8" in out.getvalue()


def test_memory_pressure_in_the_loop_saves_and_the_next_run_goes_on(tmp_path):
    board = Board(Clock(), hot=60.0)
    looks = iter([health()] * 5 + [health(rss=9000.0)])
    result, _ = run(tmp_path, board, 40, look=lambda: next(looks))
    assert not result.finished and result.retry and 0 < result.step < 40
    assert checkpoint.read(RunDir(tmp_path).checkpoint).meta["step"] == result.step
    assert run(tmp_path, board, 40)[0].step == 40


def test_under_voltage_in_the_loop_writes_a_checkpoint_at_once(tmp_path):
    board = Board(Clock(), hot=60.0)
    looks = iter([health()] * 3 + [health(bits=1)] + [health()] * 99)
    run(tmp_path, board, 40, look=lambda: next(looks))
    saves = [row["step"] for row in lines(tmp_path, "save")]
    row = next(row for row in lines(tmp_path, "governor") if row["save"])
    assert saves == [0, row["step"], 40] and 0 < row["step"] < 40


def test_work_without_anything_to_save_waits_while_the_board_is_hot_and_ends_when_told():
    temps, clock, slept = iter([50.0, 90.0, 90.0, 50.0]), Clock(), []

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
