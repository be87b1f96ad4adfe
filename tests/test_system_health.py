"""Readings come from the files of an injected root; what is missing or broken is unknown."""
import pytest

from seed import system_health
from seed.system_health import Reading


def write(root, path, text):
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def test_memory_and_the_hottest_zone_are_read(tmp_path):
    write(tmp_path, "proc/self/status", "Name:\tpython\nVmHWM:\t  4096 kB\nVmRSS:\t  2048 kB\n")
    write(tmp_path, "sys/class/thermal/thermal_zone0/temp", "41500\n")
    write(tmp_path, "sys/class/thermal/thermal_zone1/temp", "63250\n")
    write(tmp_path, "sys/class/thermal/thermal_zone2/temp", "broken")
    assert system_health.tree_mb(tmp_path) == (Reading(2.0), Reading(4.0))
    assert system_health.temp_c(tmp_path) == pytest.approx(63.25)


def test_what_cannot_be_read_is_unknown(tmp_path):
    assert system_health.temp_c(tmp_path) is None
    assert [reading.value for reading in system_health.tree_mb(tmp_path)] == [None, None]
    write(tmp_path, "proc/self/status", "VmRSS:\nVmHWM: x kB\n")
    assert [reading.value for reading in system_health.tree_mb(tmp_path)] == [None, None]


def test_this_process_reports_its_memory():
    assert min(reading.value for reading in system_health.tree_mb()) > 10


@pytest.fixture
def board(tmp_path):
    """The files of a Raspberry Pi 5 with its cooler."""
    for path, text in {
            "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
            "sys/class/thermal/thermal_zone0/temp": "41500", "proc/self/cgroup": "0::/user/a\n",
            "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
            "sys/devices/platform/soc/soc:firmware/get_throttled": "50005\n",
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "2400000",
            "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq": "2400000",
            "sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq": "1500000",
            "sys/devices/system/cpu/cpu1/cpufreq/cpuinfo_max_freq": "2400000",
            "sys/class/hwmon/hwmon2/fan1_input": "3210\n",
            "proc/meminfo": "MemAvailable: 4096 kB\nSwapTotal: 2048 kB\nSwapFree: 1024 kB\n",
            "sys/fs/cgroup/user/a/memory.max": "max\n",
            "sys/fs/cgroup/user/memory.max": "104857600\n",
            "proc/7/status": "VmRSS: 1024 kB\nVmHWM: 2048 kB\n", "proc/7/stat": "7 (a) b) S 1 7",
            "proc/8/status": "VmRSS: 3072 kB\nVmHWM: 3072 kB\n", "proc/8/stat": "8 (clang) R 7 7",
            "proc/9/status": "VmRSS: 9999 kB\nVmHWM: 9999 kB\n",
            "proc/9/stat": "9 (other) R 1 9"}.items():
        write(tmp_path, path, text)
    (tmp_path / "proc/self/status").symlink_to("../7/status")
    return tmp_path


def test_every_sensor_of_a_pi_is_read(board):
    (board / "proc/self/cgroup").rename(board / "proc/7/cgroup")
    (board / "proc/self/status").unlink()
    (board / "proc/self").rmdir()
    (board / "proc/self").symlink_to("7")
    health = system_health.read(board, board)
    assert health.board == "Raspberry Pi 5 Model B Rev 1.0"
    assert health.zones_c == {"cpu-thermal": Reading(41.5)} and health.temp_c == Reading(41.5)
    bits = health.throttled
    assert bits.now() == {"under_voltage": True, "frequency_capped": False, "throttled": True,
                          "soft_limit": False}
    assert bits.since_boot == ["under_voltage", "throttled"]
    assert health.clock_fraction == Reading(0.625) and health.fan_rpm == Reading(3210)
    assert health.rss_mb == Reading(4.0), "this process and the compiler that it started"
    assert health.peak_rss_mb == Reading(5.0)
    write(board, "proc/7/task/7/children", "8 9 ")  # a kernel that lists them
    write(board, "proc/8/task/8/children", "")
    write(board, "proc/9/task/9/children", "")
    assert system_health.tree_mb(board)[0] == Reading(4.0 + 9999 / 1024)
    assert health.mem_available_mb == Reading(4.0) and health.swap_used_mb == Reading(1.0)
    assert health.cgroup_limit_mb == Reading(100.0), "the smallest on the way up"
    assert health.disk_free_mb.value > 0 and health.inodes_free.value > 0


def test_without_throttle_bits_the_under_voltage_alarm_is_read(board):
    (board / "sys/devices/platform/soc/soc:firmware/get_throttled").unlink()
    system_health._throttle_nodes.cache_clear()
    assert system_health.throttled(board).reason == "no get_throttled and no rpi_volt in sysfs"
    write(board, "sys/class/hwmon/hwmon0/name", "cpu_thermal\n")
    write(board, "sys/class/hwmon/hwmon3/name", "rpi_volt\n")
    assert "in0_lcrit_alarm" in system_health.throttled(board).reason
    for alarm in (True, False):
        write(board, "sys/class/hwmon/hwmon3/in0_lcrit_alarm", f"{alarm:d}\n")
        bits = system_health.throttled(board)
        assert bits.now()["under_voltage"] is alarm and bits.now()["throttled"] is None
        assert not bits.since_boot


def test_swapped_out_memory_counts(board):
    write(board, "proc/8/status", "VmRSS: 1024 kB\nVmHWM: 3072 kB\nVmSwap: 2048 kB\n")
    assert system_health.tree_mb(board, 7)[0] == Reading(1.0 + 3.0)


def test_no_broken_file_raises_and_every_unknown_reading_has_a_reason(board):
    files = [path for path in board.rglob("*") if path.is_file() and not path.is_symlink()]
    for content in (b"", b"\xff\xfe", b"-", b"12 apples", b"0x" + b"9" * 500, b"\0" * 9):
        for path in files:
            before = path.read_bytes()
            path.write_bytes(content)
            health = system_health.read(board, board)
            path.write_bytes(before)
            for name, reading in health.readings().items():
                assert (reading.value is None) == bool(reading.reason), (path, content, name)


def test_under_an_empty_root_every_reading_is_unknown(tmp_path):
    health = system_health.read(tmp_path / "none", tmp_path)
    assert all(r.value is None and r.reason for r in health.readings().values())
    assert health.throttled.bits is None and set(health.throttled.now().values()) == {None}


V1 = "9:name=systemd:/a\n4:cpu,memory:/docker/x\n0::/\n"
V2 = "0::/user/a\n"
UNLIMITED = "9223372036854771712"
LIMITS = [
    (V1, {"memory/docker/x/memory.limit_in_bytes": 160, "memory/memory.limit_in_bytes": 0}, 160),
    (V1, {"memory/docker/x/memory.limit_in_bytes": 0, "memory/docker/memory.limit_in_bytes": 99,
          "memory/memory.limit_in_bytes": 0}, 99),
    (V1, {"memory/memory.limit_in_bytes": 64}, 64),       # in a container: the group is the mount
    (V1, {"memory/docker/x/memory.limit_in_bytes": 0}, float("inf")),
    (V1, {"memory/user/a/memory.limit_in_bytes": 9}, None),                 # of another group
    ("4:memory:/../../x\n", {"memory/memory.limit_in_bytes": 7}, 7),        # outside of the mount
    (V2, {"user/a/memory.max": 0, "user/a/memory.high": 80}, 80),
    (V2, {"user/a/memory.max": 70, "user/a/memory.high": 80, "user/memory.max": 90}, 70),
    (V2, {"user/a/memory.max": 0, "user/memory.high": 60, "memory.max": 0}, 60),
    (V2, {"user/a/memory.max": 0, "user/a/memory.high": 0}, float("inf")),
    ("4:memory:/b\n0::/user/a\n", {"memory/b/memory.limit_in_bytes": 0,
                                   "unified/user/a/memory.max": 50}, 50),   # hybrid
    (V1, {"memory/memory.limit_in_bytes": -1 / 2 ** 20}, float("inf")),      # as it is written
    ("1:cpu:/a\n", {}, None), ("", {"memory.max": 30}, 30)]


@pytest.mark.parametrize("groups, files, expected_mb", LIMITS)
def test_the_smallest_limit_of_both_versions_of_cgroups_counts(tmp_path, groups, files,
                                                               expected_mb):
    write(tmp_path, "proc/self/cgroup", groups)
    for path, mb in files.items():
        unlimited = UNLIMITED if path.endswith("in_bytes") else "max"
        write(tmp_path, f"sys/fs/cgroup/{path}", f"{round(mb * 2 ** 20) if mb else unlimited}\n")
    reading = system_health.cgroup_limit_mb(tmp_path)
    assert reading.value == expected_mb and (reading.value is None) == bool(reading.reason)


@pytest.mark.parametrize("text, temp_c", [
    ("47", 47.0), ("47000", 47.0), ("-5300", -5.3), ("0", 0.0), ("500", 0.5), ("100", 100.0),
    ("150000", 150.0), ("-7", -0.007)])
def test_a_zone_that_gives_whole_degrees_is_read_as_degrees(tmp_path, text, temp_c):
    write(tmp_path, "sys/class/thermal/thermal_zone0/temp", text + "\n")
    assert system_health.temp_c(tmp_path) == pytest.approx(temp_c)
