"""seed serve as a process, with a real brain: what it prints, where it listens, how it ends."""
import json
import signal
import socket
import subprocess
import sys
import time

import pytest

from seed.__main__ import main
from tests.support.served_run import WAIT_S, Served
from tests.support.tiny_run import tiny_command

LONG_S = 300.0   # to compile a model, on whatever machine


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("serve") / "run"
    subprocess.run(tiny_command(folder, steps=2), check=True, capture_output=True, timeout=LONG_S)
    return folder


class Process:
    def __init__(self, folder, *options: str):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "seed", "serve", str(folder), "--threads=1", "--port=0",
             "--json", *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.facts = json.loads(self.process.stdout.readline())
        port = int(self.facts["url"].rpartition(":")[2].strip("/"))
        self.served = Served(port, self.facts["token"], [], lambda: 0)

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Exit code and what it told."""
        self.process.send_signal(number)
        text = self.process.communicate(timeout=WAIT_S)[1]
        return self.process.returncode, text


@pytest.fixture
def serve(folder):
    processes = []

    def start(*options: str, run=folder) -> Process:
        processes.append(Process(run, *options))
        return processes[-1]
    yield start
    for process in processes:
        process.process.kill()
        process.process.communicate()


def test_a_brain_answers_on_loopback_alone_from_its_newest_checkpoint(serve, folder):
    process = serve()
    site, facts = process.served, process.facts
    assert facts["url"] == f"http://127.0.0.1:{site.port}/"
    assert facts["chat"] == f"{facts['url']}chat#{site.token}" and len(site.token) >= 22
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", site.port))
    assert site.ask("/ask", {"question": "ab>"}).json()["right"] == "ab"
    body = {"prompt": "ab>", "max_tokens": 5, "temperature": 1.5, "seed": 3}
    first = site.ask("/v1/completions", body).json()
    again = site.ask("/v1/completions", body).json()
    assert first["choices"] == again["choices"] and first["model"] == "fast"
    assert b"What it knows" in site.ask("/report").content
    subprocess.run(tiny_command(folder, steps=40), check=True, capture_output=True, timeout=LONG_S)
    assert site.ask("/v1/completions", body).status == 200
    assert "step" in site.ask("/status.json").json()
    code, told = process.end()
    assert code == 0 and "Traceback" not in told and "Ctrl-C ends" in told


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_at_once_while_a_question_is_answered(serve, number):
    process = serve()
    with process.served.connect() as connection:
        body = b'{"prompt":"a","max_tokens":4096,"temperature":1}'
        connection.sendall(
            f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer "
            f"{process.served.token}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        time.sleep(0.5)   # loading, compiling or answering: it must not matter
        code, told = process.end(number)
    assert code == 0 and "Traceback" not in told and "Error" not in told


def test_a_directory_without_a_brain_is_served_and_says_so(serve, tmp_path):
    process = serve(run=tmp_path)
    assert b"Nothing was trained here yet" in process.served.ask("/").content
    answer = process.served.ask("/v1/completions", {"prompt": "a"})
    assert answer.status == 503 and "has no brain" in answer.json()["error"]["message"]
    assert not list(tmp_path.iterdir())   # it writes nothing


def test_outside_of_this_machine_it_warns_and_refuses_names(serve):
    process = serve("--host=0.0.0.0")
    site = process.served
    assert site.ask("/health", Host="localhost").status == 200
    assert site.ask("/health", Host="127.0.0.1").status == 200
    assert site.ask("/health", Host="robot.evil.com").status == 403
    assert "WARNING: everybody in this network can see the run" in process.end()[1]


@pytest.mark.parametrize("options, message", [
    (["--port=70000"], "'70000' is no port: use 0 to 65535"), (["--port=-1"], "is no port"),
    (["--host="], "it is empty: give a name"),
    (["--host=no.such.host.invalid"], "cannot serve on no.such.host.invalid port 8765: "),
    (["--host=192.0.2.7"], "cannot serve on 192.0.2.7 port 8765: ")])
def test_where_it_cannot_listen_it_says_in_a_line(tmp_path, capsys, options, message):
    try:
        code = main(["serve", str(tmp_path), *options])
    except SystemExit as exit:
        code = exit.code
    assert code == 2 and message in capsys.readouterr().err.splitlines()[-1]


def test_a_port_that_is_taken_is_named(tmp_path, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", str(tmp_path), f"--port={port}"]) == 2
    assert f"cannot serve on 127.0.0.1 port {port}: Address already in use; give another" in (
        capsys.readouterr().err)
