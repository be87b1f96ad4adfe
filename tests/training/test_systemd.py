"""What systemd would hear of a real run, on a real socket."""
import os
import signal
import socket
import subprocess
import sys

import pytest

from seed.training.systemd import notify


def test_outside_of_a_service_nothing_is_sent(monkeypatch):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify("READY=1")
    monkeypatch.setenv("NOTIFY_SOCKET", "/nowhere/at/all")
    notify("READY=1")


@pytest.mark.parametrize("abstract", [False, True])
def test_a_run_says_that_it_is_ready_alive_and_stopping(tmp_path, abstract):
    path = f"@seed-{tmp_path.name}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path.replace("@", "\0"))
        manager.settimeout(60)
        process = subprocess.Popen(
            [sys.executable, "-m", "seed", "train", "--profile", "fast", "--steps", "100000",
             "--run-dir", str(tmp_path / "run")], env={**os.environ, "NOTIFY_SOCKET": path},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        heard = []
        while heard.count("WATCHDOG=1") < 30:
            heard.append(manager.recv(4096).decode())
        process.send_signal(signal.SIGTERM)
        while heard[-1] != "STOPPING=1":
            heard.append(manager.recv(4096).decode())
        assert process.wait(timeout=60) == 0
    assert heard[0] == "READY=1"
    assert any(text.startswith("STATUS=step ") for text in heard)
