"""Readings come from the files of an injected root; what is missing or broken is None."""
import pytest

from seed import system_health


def write(root, path, text):
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def test_memory_and_the_hottest_zone_are_read(tmp_path):
    write(tmp_path, "proc/self/status", "Name:\tpython\nVmHWM:\t  4096 kB\nVmRSS:\t  2048 kB\n")
    write(tmp_path, "sys/class/thermal/thermal_zone0/temp", "41500\n")
    write(tmp_path, "sys/class/thermal/thermal_zone1/temp", "63250\n")
    write(tmp_path, "sys/class/thermal/thermal_zone2/temp", "broken")
    assert system_health.rss_mb(tmp_path) == 2.0
    assert system_health.peak_rss_mb(tmp_path) == 4.0
    assert system_health.temp_c(tmp_path) == pytest.approx(63.25)


def test_what_cannot_be_read_is_none(tmp_path):
    assert system_health.rss_mb(tmp_path) is None and system_health.temp_c(tmp_path) is None
    write(tmp_path, "proc/self/status", "VmRSS:\nVmHWM: x kB\n")
    assert system_health.rss_mb(tmp_path) is None and system_health.peak_rss_mb(tmp_path) is None


def test_this_process_has_memory():
    assert 10 < system_health.rss_mb() <= system_health.peak_rss_mb()
