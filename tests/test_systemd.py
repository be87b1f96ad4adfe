"""What systemd receives of a real run, on a real socket."""
import json
import os
import signal
import socket
import subprocess
from contextlib import suppress

import pytest

from seed.export import Options
from seed.export.brain_file import BrainFile
from seed.interpreter import seed_command
from seed.live.brains import FIRST, Brains
from seed.storage import RunDir
from seed.systemd import notify
from tests.support.acting_brains import untrained
from tests.support.tiny_run import WAIT_S, start_tiny, wait_and_read_stderr


def test_outside_of_a_service_no_socket_is_opened(monkeypatch):
    def refuse(*args):
        raise AssertionError("a socket was opened")
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    monkeypatch.setattr(socket, "socket", refuse)
    assert notify("READY=1") is None


def test_a_manager_that_is_gone_is_no_error(monkeypatch):
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere/at/all")
    assert notify("READY=1") is None


def test_a_life_notifies_that_it_is_ready_alive_and_stopping(tmp_path):
    """Its brain has been promoted before."""
    source = RunDir(tmp_path / "source")
    source.path.mkdir()
    source.checkpoint.touch()
    source.exported_brain.write_bytes(BrainFile(untrained(), Options()).tobytes())
    stored = Brains(tmp_path / "run/live")
    stored.promote(stored.add(source), FIRST)
    os.mkfifo(tmp_path / "beats")
    reader = os.open(tmp_path / "beats", os.O_RDONLY | os.O_NONBLOCK)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(WAIT_S)
        process = subprocess.Popen(
            seed_command("live", f"--run-dir={tmp_path}/run", "--body=cartpole", "--json",
                         "--profile=control", "--learn-every=0", f"--heartbeat={tmp_path}/beats"),
            stdout=subprocess.PIPE, env={**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")})
        received, beats = [], b""
        while received.count("WATCHDOG=1") < 5 or not beats:
            with suppress(BlockingIOError):
                beats = os.read(reader, 100)   # for the robot's own watchdog
            received.append(manager.recv(4096).decode())
        process.send_signal(signal.SIGTERM)
        while received[-1] != "STOPPING=1":
            received.append(manager.recv(4096).decode())
        words = json.loads(process.communicate(timeout=WAIT_S)[0])
    assert process.returncode == 0 and received[0] == "READY=1" and words["ticks"] > 0
    assert set(beats) == set(b"\n")
    os.close(reader)


@pytest.mark.parametrize("abstract", [False, True])
def test_a_run_notifies_that_it_is_ready_alive_and_stopping(tmp_path, abstract):
    path = f"@seed-{tmp_path.name}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path.replace("@", "\0"))
        manager.settimeout(WAIT_S)
        process = start_tiny(tmp_path / "run", steps=10 ** 8,
                             env={**os.environ, "NOTIFY_SOCKET": path})
        received = []
        while received.count("WATCHDOG=1") < 30:
            received.append(manager.recv(4096).decode())
        process.send_signal(signal.SIGTERM)
        while received[-1] != "STOPPING=1":
            received.append(manager.recv(4096).decode())
        wait_and_read_stderr(process)
    assert process.returncode == 0
    assert received[0] == "READY=1"
    assert any(text.startswith("STATUS=step ") for text in received)
