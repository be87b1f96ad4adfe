"""Boards with broken sensors, and limits of cgroups: real processes in a mount namespace."""
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from seed.health_check import EXIT_CODES
from tests.support.namespace import memory_groups, needs_mounts, thermal_zones, with_mounts
from tests.support.tiny_run import rows, tiny_command, wait_for_step

pytestmark = pytest.mark.long

V1 = "5:cpu:/a\n4:memory:/docker/x\n0::/\n"
V2 = "0::/user.slice/a.service\n"
MB = 2 ** 20
UNLIMITED_V1 = "9223372036854771712"


@pytest.fixture(autouse=True)
def mounts():
    needs_mounts()


def health(setup: str) -> dict:
    command = with_mounts(setup, sys.executable, "-m", "seed", "health", "--json")
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode in EXIT_CODES.values(), done.stderr
    return json.loads(done.stdout)


def train(setup: str, run_dir: Path, *options: str, steps: int = 20) -> subprocess.Popen:
    return subprocess.Popen(with_mounts(setup, *tiny_command(run_dir, *options, steps=steps)),
                            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def test_a_zone_that_always_says_100_c_is_named_and_doubted_within_minutes(tmp_path):
    """Report 42: the PMIC-Die of a Jetson, beside zones that move."""
    setup = thermal_zones(tmp_path / "thermal", **{"CPU-therm": "34000", "PMIC-Die": "100000"})
    assert health(setup)["verdict"]["reason"] == "PMIC-Die 100.0 C; resumes at 70 C"
    process, began = train(setup, tmp_path / "run"), time.monotonic()
    while process.poll() is None and time.monotonic() < began + 400:
        text = str(34000 + int(time.monotonic()) % 3 * 500)
        (tmp_path / "thermal/thermal_zone0/temp").write_text(text + "\n")
        time.sleep(1)
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == 0 and "PMIC-Die 100.0 C; resumes at 70 C" in errors
    assert 100 < time.monotonic() - began < 300


@pytest.mark.parametrize("temps, action, temp_c", [
    ({"soc": "45000", "gpu": "-256000", "npu": "-274000"}, "run", 45.0),
    ({"cpu": "47"}, "run", 47.0), ({"cpu": "82"}, "pause", 82.0), ({"cpu": "-5300"}, "run", -5.3),
    ({"acpitz": "27800", "x86_pkg_temp": "55000", "iwlwifi_1": ""}, "run", 55.0),
    ({"cpu": "45000", "left": "93000"}, "pause", 93.0)], ids=str)
def test_boards_of_all_kinds_are_read(tmp_path, temps, action, temp_c):
    """Report 42: zones of -256 C, in degrees, below zero, without a reading."""
    facts = health(thermal_zones(tmp_path / "thermal", **temps))
    assert facts["verdict"]["action"] == action
    values = [zone["value"] for zone in facts["zones_c"].values() if zone["value"] is not None]
    assert max(values) == pytest.approx(temp_c)


def test_a_pause_for_heat_is_not_time_of_training(tmp_path):
    """Attack 63: 85 C for longer than the rest of --minutes: the rate still falls to its end."""
    zone = tmp_path / "thermal/thermal_zone0/temp"
    setup = thermal_zones(tmp_path / "thermal", cpu="50000")
    command = [*tiny_command(tmp_path / "run"), "--minutes=0.12"]
    command.remove("--steps=20")
    process = subprocess.Popen(with_mounts(setup, *command), stderr=subprocess.PIPE, text=True,
                               stdout=subprocess.DEVNULL)
    wait_for_step(tmp_path / "run", 60, process)
    zone.write_text("85000\n")
    time.sleep(12)
    assert process.poll() is None and rows(tmp_path / "run", "governor")[-1]["action"] == "pause"
    step = rows(tmp_path / "run", "step")[-1]["step"]
    zone.write_text("60000\n")
    errors = process.communicate(timeout=120)[1]
    rates = [row["lr"] for row in rows(tmp_path / "run", "step")]
    assert process.returncode == 0 and len(rates) > 1.5 * step, errors
    assert rates[-1] < 0.1 * max(rates)


def test_a_paused_run_is_alive_for_its_watchdog_and_ends_at_once(tmp_path):
    """Attack 64: NOTIFY_SOCKET in a pause for heat: WATCHDOG=1 each second; SIGTERM ends it."""
    zone = tmp_path / "thermal/thermal_zone0/temp"
    setup = thermal_zones(tmp_path / "thermal", cpu="50000")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        process = subprocess.Popen(
            with_mounts(setup, *tiny_command(tmp_path / "run", steps=10 ** 8)),
            stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            env={**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")})
        wait_for_step(tmp_path / "run", 10, process)
        zone.write_text("85000\n")
        while not rows(tmp_path / "run", "governor"):
            manager.recv(4096)
        manager.settimeout(3)
        times: list[float] = []
        while len(times) < 8:
            if manager.recv(4096) == b"WATCHDOG=1":
                times.append(time.monotonic())
        assert all(after - before < 2 for before, after in zip(times, times[1:]))
        process.terminate()
        began = time.monotonic()
        assert process.wait(timeout=30) == 0 and time.monotonic() - began < 3


LIMITS = [
    (V1, {"memory/docker/x/memory.limit_in_bytes": 160, "memory/memory.limit_in_bytes": None}),
    (V1, {"memory/docker/x/memory.limit_in_bytes": None, "memory/memory.limit_in_bytes": 160}),
    (V2, {"user.slice/a.service/memory.max": None, "user.slice/memory.max": 160}),
    (V2, {"user.slice/a.service/memory.max": None, "user.slice/a.service/memory.high": 160})]


def limits_of(groups: str, limits: dict[str, int | None]) -> dict[str, str]:
    unlimited = UNLIMITED_V1 if groups == V1 else "max"
    return {path: str(mb * MB) if mb else unlimited for path, mb in limits.items()}


@pytest.mark.parametrize("groups, limits", LIMITS, ids=["v1", "v1 parent", "v2 parent", "v2 high"])
def test_a_limit_of_the_group_is_seen_before_the_kernel_kills(tmp_path, groups, limits):
    """Report 14: docker run -m 160m on a host with cgroup v1."""
    setup = memory_groups(tmp_path, groups, limits_of(groups, limits))
    facts = health(setup)
    assert facts["cgroup_limit_mb"]["value"] == 160
    assert "the trainer stops itself above 152 MB" in facts["enforcement"]
    process = train(setup, tmp_path / "run", "--set=train.batch_size=64", "--set=model.d_model=256")
    errors = process.communicate(timeout=300)[1]
    assert process.returncode == 2 and "the ceiling is 152 MB" in errors


def test_no_limit_of_v1_is_no_limit(tmp_path):
    """Own: the largest number of pages is not a limit of 8 EB."""
    setup = memory_groups(tmp_path, V1, {"memory/docker/x/memory.limit_in_bytes": UNLIMITED_V1})
    assert health(setup)["cgroup_limit_mb"]["value"] is None
    assert len(health(setup)["enforcement"]) == 1


@pytest.mark.parametrize("groups, path", [
    (V1, "memory/docker/x/memory.limit_in_bytes"), (V2, "user.slice/a.service/memory.high")])
def test_a_limit_that_is_lowered_while_training_saves_and_stops(tmp_path, groups, path):
    """Own: docker update -m, or systemctl set-property, during a run."""
    unlimited = UNLIMITED_V1 if groups == V1 else "max"
    setup = memory_groups(tmp_path, groups, {path: unlimited})
    process = train(setup, tmp_path / "run", steps=10 ** 8)
    until = time.monotonic() + 300
    while not rows(tmp_path / "run", "step"):
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.1)
    (tmp_path / "cgroup" / path).write_text(f"{32 * MB}\n")
    errors = process.communicate(timeout=60)[1]
    assert process.returncode == 75 and "over the ceiling of 30 MB" in errors
    saved = rows(tmp_path / "run", "save")[-1]["step"]
    assert saved == rows(tmp_path / "run", "step")[-1]["step"]


@pytest.mark.parametrize("text", ["", "x", "-1", "99999999999999999999999", "\0"])
def test_a_broken_limit_is_unknown_and_the_run_is_trained(tmp_path, text):
    """Own: a limit that cannot be read stops nothing."""
    path = "memory/docker/x/memory.limit_in_bytes"
    setup = memory_groups(tmp_path, V1, {path: text})
    facts = health(setup)
    assert facts["verdict"]["action"] == "run" and facts["cgroup_limit_mb"]["value"] is None
    process = train(setup, tmp_path / "run", steps=3)
    errors = process.communicate(timeout=300)[1]
    assert process.returncode == 0, errors


def test_sensors_that_vanish_while_training_slow_it_and_end_nothing(tmp_path):
    """Own: the driver is unloaded during a run."""
    setup = thermal_zones(tmp_path / "thermal", cpu="45000", gpu="46000")
    process = train(setup, tmp_path / "run", steps=10 ** 8)
    while not rows(tmp_path / "run", "step"):
        assert process.poll() is None
        time.sleep(0.1)
    for name in ("temp", "type"):
        (tmp_path / "thermal/thermal_zone0" / name).unlink()
    until = time.monotonic() + 60
    while not any(row["action"] == "slow" for row in rows(tmp_path / "run", "governor")):
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.2)
    process.terminate()
    assert "cpu: no longer listed" in process.communicate(timeout=60)[1]
    assert process.returncode == 0
