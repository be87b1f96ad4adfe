"""A teacher's server that is wrong, late, hostile or merely odd, against real trainings."""
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from seed.errors import ConfigError
from seed.practice.endpoint import Endpoint, EndpointError
from seed.practice.teacher import open_teacher
from seed.profile_file import load_profile
from seed.storage import RunDir
from tests.support.chat_server import ChatServer, answer_sums, completion, send
from tests.support.odd_servers import KEY, ODD, needs_key, refuse, sum_of, thinks
from tests.support.raw_server import HOSTILE_BYTES, RawServer, redirect, sends
from tests.support.small_run import wait_until
from tests.support.tiny_run import rows, start_tiny, wait_and_read_stderr, wait_for_step

pytestmark = pytest.mark.long
TEACHER = ("--set=teacher.kind=endpoint", "--set=teacher.tasks={add=1.0}",
           "--set=teacher.every_steps=2", "--set=teacher.timeout_s=2")


def train(folder: Path, url: str, is_done_fn: Callable[[dict], object], *options: str,
          **environment: str) -> str:
    """What a training logs that is stopped when its last row of the teacher has come that far."""
    process = start_tiny(folder, *TEACHER, f"--set=teacher.url={url}", *options, steps=10**6,
                         env={**os.environ, **environment})
    try:
        wait_until(lambda: any(map(is_done_fn, rows(folder, "teacher")[-1:])), process, 120)
    finally:
        process.send_signal(signal.SIGTERM)
        stderr = wait_and_read_stderr(process)
    assert process.returncode == 0, stderr
    return stderr


def accepts(row: dict) -> bool:
    return row["replies"].get("accepted", 0) >= 3


def fails(reason: str) -> Callable[[dict], bool]:
    return lambda row: row["replies"].get(reason, 0) >= 1


def assert_no_file_holds(folder: Path, secret: str) -> None:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files and not [path for path in files if secret.encode() in path.read_bytes()]


def test_a_teacher_of_a_checkpoint_is_never_asked_in_silence(tmp_path):
    """Attack 3 (teacher): a resumed run that asks a server has told its address."""
    with ChatServer(answer_sums) as server:
        train(tmp_path, server.url, accepts)
        server.requests.clear()
        resumed = start_tiny(tmp_path, steps=10**6)
        step = rows(tmp_path, "step")[-1]["step"]
        wait_for_step(tmp_path, step + 100, resumed)
        resumed.send_signal(signal.SIGTERM)
        stderr = wait_and_read_stderr(resumed)
        assert not server.requests or f"asks {server.url}/chat/completions" in stderr


@pytest.mark.parametrize("kind", HOSTILE_BYTES)
def test_hostile_bytes_end_in_time_without_memory(kind):
    """Attack 24: and Own: the last fifteen kinds."""
    answer_fn, reason = HOSTILE_BYTES[kind]
    with RawServer(answer_fn) as server:
        endpoint = Endpoint(server.url, "m", 1.5)
        tracemalloc.start()
        began = time.monotonic()
        try:
            text: str | None = endpoint.complete([], "1+1=", 8).text
        except EndpointError as error:
            text, told = None, error.reason
        elapsed, peak = time.monotonic() - began, tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert elapsed < 2.5 and peak < 8_000_000
    if reason is None:
        assert text is not None
    else:
        assert text is None and told == reason


@pytest.mark.parametrize("url", [
    "file:///etc/passwd", "ftp://x/", "gopher://x", "//x", "http://127.0.0.1:99999/", "http://[::1",
    "http://127.0.0.1/a\r\nX: y", "http://", "http://there/a b", "http://there:0/", "there:80"])
def test_a_wrong_url_is_refused_by_name(url):
    """Attack 25: CR and LF too."""
    with pytest.raises(ConfigError, match="teacher.url is .*: use http://host:port/v1"):
        Endpoint(url, "m", 1.0)


@pytest.mark.parametrize("late_s", [60, 420, 3600])
def test_a_late_teacher_is_probed_when_it_answers(tmp_path, late_s):
    """Attack 106: waits sped up 600 times."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    lines: list[str] = []
    teacher = open_teacher(load_profile("toy", [
        "teacher.kind=endpoint", f"teacher.url=http://127.0.0.1:{port}", "teacher.tasks={add=1}"]),
        RunDir(tmp_path), lines.append)
    assert teacher
    teacher.backend.sleep_fn = lambda s: time.sleep(s / 600)
    began = time.monotonic()
    while time.monotonic() - began < late_s / 600:
        assert not teacher.collect(0)
        time.sleep(0.01)
    with ChatServer(answer_sums, port=port):
        step = 0
        while not teacher.items and time.monotonic() - began < 60:
            teacher.collect(step := step + 1)
            time.sleep(0.01)
    teacher.log_faults()
    assert teacher.items and not teacher.rejected
    assert "teacher answered 20 of 20 probe questions" in lines


UNUSABLE = {
    "status 401": lambda handler, _: refuse(handler, 401, "Invalid API Key"),
    "status 404": lambda handler, _: refuse(handler, 404, "model 'x' not found"),
    "status 400": lambda handler, _: refuse(handler, 400, "model is required"),
    "status 500": lambda handler, _: refuse(handler, 500, "CUDA"),
    "not a chat completion": lambda handler, _: send(handler, b"<html>Welcome to nginx!</html>"),
}


@pytest.mark.parametrize("reason", [*UNUSABLE, "connection refused", "TLS failed"])
def test_an_endpoint_that_cannot_be_used_is_told_with_its_reason(tmp_path, reason):
    """Report 2: at once, with the address and what to do; no question counts as answered."""
    with ChatServer(UNUSABLE.get(reason, answer_sums)) as server:
        url = server.url
        if reason == "connection refused":
            server.server.server_close()
        if reason == "TLS failed":
            url = url.replace("http:", "https:")
        log = train(tmp_path, url, fails(reason))
    line = next(line for line in log.splitlines() if "no reply from the teacher" in line)
    assert f"{url}/chat/completions: {reason}" in line and "; " in line
    assert "probe questions" not in log and not rows(tmp_path, "teacher")[-1]["probe"]


def test_a_server_with_a_key_is_used_and_the_key_stays_out_of_every_file(tmp_path):
    """Report 3: SEED_TEACHER_KEY."""
    with ChatServer(needs_key) as server:
        log = train(tmp_path, server.url, accepts, SEED_TEACHER_KEY=f"{KEY}\n")
        assert "20 of 20" in log and KEY not in log
        assert_no_file_holds(tmp_path, KEY)
        log = train(tmp_path, server.url, fails("status 401"), SEED_TEACHER_KEY=f"not-{KEY}")
        assert "check SEED_TEACHER_KEY" in log and KEY not in log
        assert_no_file_holds(tmp_path, KEY)


def test_a_rate_limit_loses_no_question_and_costs_what_it_says(tmp_path):
    """Report 4: one request a second, with Retry-After."""
    last = [0.0]

    def limited(handler, request):
        if time.monotonic() - last[0] < 1:
            return refuse(handler, 429, "slow down", Retry_After="1")
        last[0] = time.monotonic()
        answer_sums(handler, request)
    with ChatServer(limited) as server:
        began = time.monotonic()
        log = train(tmp_path, server.url, accepts)
    assert "20 of 20" in log and time.monotonic() - began < 60


@pytest.mark.parametrize("kind", ODD)
def test_an_odd_server_teaches_a_training(tmp_path, kind):
    """Report 5: thoughts. Report 6: refused parameters. Report 10: chunked and kept open."""
    with ChatServer(ODD[kind]) as server:
        assert "20 of 20" in train(tmp_path, server.url, accepts)


@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/", "/v1/chat/completions"])
def test_a_base_url_is_understood(tmp_path, path):
    """Report 7: with or without /v1, or the whole address."""
    def answer(handler, request):
        if handler.path != "/v1/chat/completions":
            return refuse(handler, 404, "not found")
        answer_sums(handler, request)
    with ChatServer(answer) as server:
        assert "20 of 20" in train(tmp_path, server.url.removesuffix("/v1") + path, accepts)


def test_the_query_of_a_url_is_kept_and_its_password_refused(tmp_path):
    """Report 8: refused before anything is saved."""
    with ChatServer(answer_sums) as server:
        train(tmp_path, f"{server.url}?api-version=2024-02-01", accepts, SEED_TEACHER_KEY="a-key")
        path, headers, _ = server.requests[0]
        assert path == "/v1/chat/completions?api-version=2024-02-01"
        assert headers["api-key"] == "a-key"
    refused = start_tiny(tmp_path / "new", *TEACHER, "--set=teacher.url=http://user:hidden@there/")
    stderr = wait_and_read_stderr(refused)
    assert refused.returncode == 2 and "hidden" not in stderr and "SEED_TEACHER_KEY" in stderr
    assert not RunDir(tmp_path / "new").checkpoint.exists()


def test_a_server_that_still_loads_its_model_is_waited_for(tmp_path):
    """Report 12: 503 for ten seconds."""
    began = time.monotonic()

    def loading(handler, request):
        if time.monotonic() - began < 10:
            return refuse(handler, 503, "Loading model", Retry_After="1")
        answer_sums(handler, request)
    with ChatServer(loading) as server:
        log = train(tmp_path, server.url, accepts)
    assert "status 503 (Loading model); wait until it has loaded" in log and "20 of 20" in log


def self_signed(folder: Path) -> tuple[Path, Path]:
    if not shutil.which("openssl"):
        pytest.skip("no openssl")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
                    "-keyout", key, "-out", certificate, "-subj", "/CN=localhost", "-addext",
                    "subjectAltName=DNS:localhost"], check=True, capture_output=True)
    return key, certificate


def test_a_proxy_variable_is_ignored_and_a_certificate_of_one_s_own_trusted(tmp_path):
    """Report 49: HTTP_PROXY; https with SSL_CERT_FILE; localhost. The byte order mark is in ODD."""
    proxy = {name: "http://127.0.0.1:1" for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY")}
    with ChatServer(answer_sums) as server:
        url = server.url.replace("127.0.0.1", "localhost")
        assert "20 of 20" in train(tmp_path / "http", url, accepts, **proxy)
    key, certificate = self_signed(tmp_path)
    with ChatServer(answer_sums) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        server.server.socket = context.wrap_socket(server.server.socket, server_side=True)
        url = server.url.replace("http://127.0.0.1", "https://localhost")
        log = train(tmp_path / "no", url, fails("certificate not trusted"))
        assert "set SSL_CERT_FILE to a file with the server's certificate" in log
        assert "20 of 20" in train(tmp_path / "tls", url, accepts, SSL_CERT_FILE=str(certificate))


def test_a_redirect_never_carries_the_key_elsewhere(tmp_path):
    """Own: the address is told, and nobody else is asked."""
    with ChatServer(answer_sums) as other, RawServer(redirect(f"{other.url}?t=1", 308)) as server:
        log = train(tmp_path, server.url, fails("status 308"), SEED_TEACHER_KEY=KEY)
        assert not other.requests
    assert f"status 308 ({other.url}); redirects are not followed" in log and KEY not in log


def test_a_tls_handshake_that_stalls_is_left_at_the_deadline():
    """Own: bytes of a handshake, one at a time, for ever."""
    def stall(connection):
        for byte in b"\x16\x03\x03\x40\x00" + bytes(999):
            connection.sendall(bytes([byte]))
            time.sleep(0.1)
    with RawServer(stall) as server:
        began = time.monotonic()
        with pytest.raises(EndpointError, match="too slow"):
            Endpoint(server.url.replace("http:", "https:"), "", 1.5).complete([], "1+1=", 8)
    assert time.monotonic() - began < 2.5


def test_a_server_that_never_reads_is_left_at_the_deadline():
    """Own: a request larger than every buffer."""
    with RawServer(sends(then_s=9), reads=False) as server:
        began = time.monotonic()
        with pytest.raises(EndpointError, match="too slow"):
            Endpoint(server.url, "", 1.5).complete([("x" * 20_000_000, "y")], "1+1=", 8)
    assert time.monotonic() - began < 3.5


def test_a_server_that_is_restarted_on_its_port_teaches_again(tmp_path):
    """Own: a dropped teacher."""
    with ChatServer(answer_sums) as server:
        port = server.server.server_address[1]
        log = train(tmp_path, server.url, accepts)
    url = f"http://127.0.0.1:{port}/v1"
    train(tmp_path, url, fails("connection refused"))
    n_taught = len(RunDir(tmp_path).teacher_log.read_text().splitlines())
    with ChatServer(answer_sums, port=port):
        log = train(tmp_path, url, accepts)
    assert "20 of 20" in log
    assert len(RunDir(tmp_path).teacher_log.read_text().splitlines()) > n_taught


def test_every_second_request_fails_and_no_answer_is_lost(tmp_path):
    """Own: 500, a reset and silence in turn; the pauses stay at a second."""
    counts = {"n": 0}

    def flaky(handler, request):
        counts["n"] += 1
        if counts["n"] % 2:
            return answer_sums(handler, request)
        if counts["n"] % 4:
            refuse(handler, 500, "oops")
        handler.close_connection = True
    with ChatServer(flaky) as server:
        log = train(tmp_path, server.url, accepts)
    assert "20 of 20" in log and not rows(tmp_path, "teacher")[-1]["replies"].get("wrong")


def test_a_model_that_never_ends_is_rejected_with_that_reason(tmp_path):
    """Own: it answers, so it is judged."""
    with ChatServer(lambda handler, _: send(handler, completion(
            "Sure! Let me", finish_reason="length"))) as server:
        log = train(tmp_path, server.url, lambda row: sum(row["probe"].values()) == 20)
    assert "0 of 20 probe questions; rejected (needs 50 %): 20 cut off" in log


def test_a_thought_beyond_its_limit_is_named_and_not_judged(tmp_path):
    """Own: teacher.thought_tokens of 10."""
    with ChatServer(thinks) as server:
        log = train(tmp_path, server.url, fails("cut off in its thought"),
                    "--set=teacher.thought_tokens=10")
    assert "turn the model's thinking off, or raise teacher.thought_tokens (10)" in log
    assert "rejected" not in log


def test_a_teacher_that_never_answers_changes_no_bit(tmp_path):
    """Own: the weights of a run whose server fails are those of a run without a teacher."""
    weights = []
    with ChatServer(lambda handler, _: refuse(handler, 500, "oops")) as server:
        for name, options in (("alone", ()), ("failing", (
                *TEACHER, f"--set=teacher.url={server.url}"))):
            process = start_tiny(tmp_path / name, *options, steps=40)
            stderr = wait_and_read_stderr(process)
            assert process.returncode == 0, stderr
            weights.append(load_file(RunDir(tmp_path / name).checkpoint))
    assert server.requests and weights[0].keys() == weights[1].keys()
    assert all((weights[0][name] == weights[1][name]).all() for name in weights[0])


def test_escapes_of_a_server_reach_neither_screen_nor_metrics(tmp_path):
    """Own: in its message, in a reply and in the redirect's address."""
    def answer(handler, request):
        if "logprobs" in request or int(sum_of(request)) % 2:
            return refuse(handler, 400, "\x1b]0;owned\x07\x1b[2J" + 9999 * "\u202e")
        send(handler, completion("\x1b[2J4"))
    with ChatServer(answer) as server:
        log = train(tmp_path, server.url, fails("status 400"))
    assert log.replace("\n", "").replace("\t", "").isprintable() and log.isascii()
    for row in rows(tmp_path, "teacher"):
        assert json.dumps(row).isprintable()


def test_a_stop_is_not_delayed_by_a_silent_server(tmp_path):
    """Own: SIGTERM while a request waits for its reply."""
    with RawServer(sends(then_s=600)) as server:
        process = start_tiny(tmp_path, *TEACHER, f"--set=teacher.url={server.url}",
                             "--set=teacher.timeout_s=600", steps=10**6)
        wait_for_step(tmp_path, 20, process)
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        stderr = wait_and_read_stderr(process)
    assert process.returncode == 0 and time.monotonic() - began < 10, stderr
    assert "Traceback" not in stderr and "Fatal" not in stderr
