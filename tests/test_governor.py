"""The governor's decisions, given the readings of a board's sensors."""
from dataclasses import replace

import pytest

from seed.config import GovernorConfig
from seed.governor import (MAX_UNCHANGED_S, PAUSE, RUN, SLOW, SLOW_DUTY, STOP,
                           UNKNOWN_DUTY, Cause, History, ceiling_mb, decide)
from seed.system_health import Health, Reading, Throttled
from tests.support.fake_board import health

CONFIG = GovernorConfig()


def decisions(*readings: Health, seconds: float = 1.0):
    """One for each reading, `seconds` apart."""
    history, made = History(), []
    for i, reading in enumerate(readings):
        decision, history = decide(CONFIG, history, reading, i * seconds)
        made.append(decision)
    return made


def actions(*temps, **more) -> list[str]:
    return [d.action for d in decisions(*(health(t) for t in temps), **more)]


def test_heat_slows_then_pauses_and_training_resumes_only_well_below():
    assert actions(60, 74.9, 76, 79, 80, 75, 71, 70) == \
        [RUN, RUN, SLOW, SLOW, PAUSE, PAUSE, PAUSE, RUN]
    assert actions(76, 74, 71, 69.9) == [SLOW, SLOW, SLOW, RUN]
    duties = [d.duty for d in decisions(health(75), health(77.5), health(79.9))]
    assert duties == pytest.approx([1.0, 0.75, 0.51])


@pytest.mark.parametrize("after, expected", [
    ([None] * 4, [RUN, RUN, SLOW, SLOW]), ([-40, 200, -40], [RUN, RUN, SLOW])])
def test_a_missing_or_implausible_reading_is_doubted_then_unknown(after, expected):
    assert actions(60, *after) == [RUN, *expected]
    last = decisions(*(health(t) for t in (60, *after)))[-1]
    assert last.duty == UNKNOWN_DUTY and "temperature unknown" in last.reason


def test_a_sudden_fall_ends_a_pause_only_if_it_lasts_and_a_rise_counts_at_once():
    assert actions(82, 30, 30, 30, 30) == [PAUSE, PAUSE, PAUSE, RUN, RUN]
    assert actions(82, 30, 81, 30, 30, 81) == [PAUSE] * 6
    assert actions(40, 85) == [RUN, PAUSE]


def test_a_frozen_sensor_is_not_trusted_until_it_changes_again():
    step = MAX_UNCHANGED_S / 2
    assert actions(60, 60, 60, 60, 61, seconds=step) == [RUN, RUN, RUN, SLOW, RUN]


def test_a_board_without_a_sensor_is_slowed_and_a_server_is_not():
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


def test_an_implausible_zone_hides_no_other():
    assert [d.action for d in decisions(*[zones(gpu=200.0, cpu=89.0)] * 4)] == [PAUSE] * 4
    assert decisions(zones(gpu=200.0, cpu=50.0))[0].action == RUN   # gpu was never known


def test_a_lost_zone_beside_a_cool_one_is_not_taken_for_cool():
    readings = [zones(cpu=60.0, nvme=45.0), *[zones(cpu=None, nvme=45.0)] * 4,
                zones(nvme=45.0), zones(cpu=61.0, nvme=45.0)]
    made = decisions(*readings)
    assert [d.action for d in made] == [RUN, RUN, RUN, SLOW, SLOW, SLOW, RUN]
    assert made[4].reason == "temperature unknown: cpu: gone"
    assert made[5].reason == "temperature unknown: cpu: no longer listed"
    hot = decisions(*readings[:4], zones(cpu=None, nvme=79.0))[-1]
    assert hot.action == SLOW and hot.duty == pytest.approx(0.6)   # the lower of both


def test_a_frozen_zone_counts_as_lost_only_if_it_ever_changed():
    step = MAX_UNCHANGED_S / 2
    frozen = [zones(cpu=60.0 + i, acpi=27.8) for i in range(5)]
    assert [d.action for d in decisions(*frozen, seconds=step)] == [RUN] * 5
    changed = [zones(cpu=59.0, acpi=28.8), *frozen]
    assert [d.action for d in decisions(*changed, seconds=step)] == [RUN] * 4 + [SLOW] * 2


def test_a_pause_whose_sensor_is_lost_lasts_until_any_board_has_cooled():
    made = decisions(health(82), *[health(None)] * 12, seconds=30)
    assert [d.action for d in made] == [PAUSE] * 13
    assert "resumes 300 s after the sensor was lost" in made[5].reason
    made = decisions(health(82), *[health(None)] * 15, health(78), health(69), seconds=30)
    assert [d.action for d in made[12:]] == [PAUSE, SLOW, SLOW, SLOW, SLOW, RUN]
    back = decisions(health(82), *[health(None)] * 4, health(78), health(69), seconds=30)
    assert [d.action for d in back[5:]] == [PAUSE, RUN]   # the pause has not ended meanwhile


def test_throttle_bits_of_the_firmware_slow_a_board_that_reads_cool():
    for bits, text in ((1 << 2, "throttled"), (1 << 3, "soft temperature limit")):
        decision = decisions(health(60, bits))[0]
        assert decision.action == SLOW and decision.duty == SLOW_DUTY
        assert text in decision.reason
    assert decisions(health(60, 0xF << 16))[0].action == RUN  # since boot, not now


@pytest.mark.parametrize("reading, cause", [
    (health(60), Cause.NONE), (health(76), Cause.HEAT), (health(85), Cause.HEAT),
    (health(60, 4), Cause.FIRMWARE), (health(None), Cause.UNKNOWN_TEMPERATURE),
    (health(rss=7000.0), Cause.MEMORY)])
def test_a_decision_names_its_cause(reading, cause):
    assert decisions(reading)[0].cause is cause


def test_a_report_of_the_firmware_counts_for_a_minute():
    made = decisions(*[health(60, bits) for bits in (0, 4, 0, 4, 0, 0, 0)], seconds=25)
    assert [d.action for d in made] == [RUN, SLOW, SLOW, SLOW, SLOW, SLOW, RUN]


def test_under_voltage_saves_when_it_begins_and_every_five_minutes_while_it_lasts():
    made = decisions(*[health(60, bits) for bits in (0, 1, 1, 1, 0, 1)], seconds=50)
    assert [d.save for d in made] == [False, True, False, False, False, True]
    assert "under-voltage" in made[1].reason and made[1].action == RUN
    again = decisions(*[health(60, 1)] * 5, seconds=100)
    assert [d.save for d in again] == [True, False, False, True, False]


def test_under_voltage_that_flickers_saves_once_a_minute():
    made = decisions(*[health(60, i % 2) for i in range(600)])
    assert sum(d.save for d in made) == 10


def test_memory_pressure_saves_and_stops():
    for reading, text in ((health(rss=7000.0), "over the ceiling of 6144 MB"),
                          (health(left=150.0), "only 150 MB"),
                          (health(rss=960.0, cgroup=1000.0), "over the ceiling of 950 MB")):
        decision = decisions(reading)[0]
        assert decision.action == STOP and decision.save and text in decision.reason
    assert ceiling_mb(CONFIG, health()) == 6144.0


def test_a_pause_and_a_slower_run_name_the_zone():
    assert decisions(zones(cpu=50.0, PMIC=82.0))[0].reason == "PMIC 82.0 C; resumes at 70 C"
    assert decisions(zones(cpu=76.0, PMIC=50.0))[0].reason == "cpu 76.0 C"


def test_a_zone_that_is_frozen_hot_beside_others_that_move_is_doubted_within_minutes():
    board = [zones(CPU=34.0 + i % 3, PMIC=100.0) for i in range(120)]
    made = decisions(*board, seconds=10)
    assert [d.action for d in made] == [PAUSE] * 13 + [RUN] * 107   # it was never known
    assert made[0].reason.startswith("PMIC 100.0 C")
    changed = [zones(CPU=40.0, PMIC=81.0), *board]
    actions = [d.action for d in decisions(*changed, seconds=10)]
    assert actions == [PAUSE] * (14 + 30) + [SLOW] * 77   # it was: the pause lasts on, 300 s
    again = decisions(*board[:20], zones(CPU=34.0, PMIC=99.0), seconds=10)
    assert [d.action for d in again[-2:]] == [RUN, PAUSE], "until it changes"


@pytest.mark.parametrize("readings", [
    [zones(CPU=34.0, PMIC=100.0)] * 90,                       # no other moves either
    [zones(CPU=34.0 + i, PMIC=100.0 - i % 2) for i in range(60)],      # it moves
    [zones(PMIC=100.0)] * 90], ids=["all frozen", "hot", "alone"])
def test_a_hot_zone_that_may_be_right_still_pauses(readings):
    assert {d.action for d in decisions(*readings, seconds=10)} == {PAUSE}


def test_a_cool_zone_is_not_doubted_sooner():
    board = [zones(cpu=82.0, nvme=46.0), *[zones(cpu=82.0 - i % 2, nvme=45.0) for i in range(40)]]
    made = decisions(*board, zones(cpu=69.0, nvme=45.0), *[zones(cpu=68.0, nvme=45.0)] * 3,
                     seconds=20)
    assert [d.action for d in made] == [PAUSE] * 41 + [RUN] * 4   # nvme is not lost


def test_a_steady_zone_of_a_run_that_is_not_paused_is_trusted_for_a_quarter_of_an_hour():
    board = [zones(cpu=78.0 - (i == 0), gpu=60.0 + i % 2) for i in range(89)]
    assert {d.action for d in decisions(*board, seconds=10)} == {SLOW}
    assert {d.cause for d in decisions(*board, seconds=10)} == {Cause.HEAT}
