"""The governor's decisions, for readings of a board."""
from dataclasses import replace

import pytest

from seed.config import GovernorConfig
from seed.governor import (MAX_UNCHANGED_S, PAUSE, RUN, SLOW, SLOW_DUTY, STOP,
                           UNKNOWN_DUTY, Cause, History, ceiling_mb, decide)
from seed.system_health import Health, Reading, Throttled
from tests.support.fake_board import health

CONFIG = GovernorConfig()


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
