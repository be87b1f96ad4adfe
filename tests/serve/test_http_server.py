"""Hostile clients: what they send is bounded, what they hold up is not for long, what they name is
no file, and nobody else waits for them."""
import re
import socket
import threading

import pytest

from seed.serve import http_server
from tests.support.served_run import WAIT_S, read_all

HOST = b"Host: localhost\r\n"


@pytest.mark.parametrize("path", [
    "/../../../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "/report/../lock",
    "/metrics.jsonl", "/checkpoint.safetensors", "/report%00.html", "/./", "/panel/", "\\..\\lock",
    "file:///etc/passwd", "http://evil.com/", "/static/" + "a" * 5000, "*", "/é"])
def test_a_path_is_a_name_and_never_a_file(site, run_dir, path):
    (run_dir.path / "lock").write_text("root:x:0:0")
    answer = site.send(b"GET " + path.encode() + b" HTTP/1.1\r\n" + HOST + b"\r\n")
    assert b"root:" not in answer and re.match(rb"HTTP/1.1 4\d\d ", answer)


@pytest.mark.parametrize("data, status", [
    (b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 70_000 + b"\r\n\r\n", 431),
    (b"GET / HTTP/1.1\r\n" + HOST + 200 * b"X: a\r\n" + b"\r\n", 431),
    (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n", 414),
    (b"PUT / HTTP/1.1\r\n" + HOST + b"\r\n", 501), (b"OPTIONS * HTTP/1.1\r\n\r\n", 501),
    (b"GET / HTTP/9.9\r\n" + HOST + b"\r\n", 505), (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", 400),
    (b"GET\r\n\r\n", 400), (b"POST /\r\n\r\n", 400), (b"GET / HTTP/1.1 x\r\n\r\n", 400)])
def test_what_is_no_request_is_one_line(site, data, status):
    head, _, content = site.send(data).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status) and b"Server: seed" in head
    assert content.count(b"\n") == 1 and b"<" not in content and site.log == []
    assert re.search(rb"; (use|send) ", content)   # what to do


@pytest.mark.parametrize("head, status, words", [
    (b"Content-Length: 99999999999999999999999\r\n", 413, b"send 65,536 at most"),
    (b"Content-Length: 65537\r\n", 413, b"65,537 bytes"),
    (b"Content-Length: -1\r\n", 400, b"no number"), (b"Content-Length: 1_0\r\n", 400, b"no number"),
    (b"Content-Length: \xb2\r\n", 400, b"no number"),
    (b"Content-Length: 2\r\nContent-Length: 3\r\n", 400, b"no number"),
    (b"Transfer-Encoding: chunked\r\n", 411, b"send Content-Length"),
    (b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n", 411, b"send Content-Length")])
def test_a_body_of_doubtful_length_is_refused(site, brain, head, status, words):
    authorization = f"Authorization: Bearer {site.token}\r\n".encode()
    answer = site.send(b"POST /ask HTTP/1.1\r\n" + HOST + authorization + head + b"\r\n{}")
    assert answer.startswith(b"HTTP/1.1 %d " % status) and words in answer and not brain.calls


def test_a_body_without_the_token_is_not_read(site):
    answer = site.ask("/ask", b"x" * 60_000, Authorization="no")
    assert answer.status == 401


def test_a_connection_is_for_one_request(site):
    request = b"GET /health HTTP/1.1\r\n" + HOST + b"\r\n"
    assert site.send(request + request).count(b"HTTP/1.1 200") == 1


def test_head_has_no_content(site):
    answer = site.ask("/", method="HEAD")
    assert answer.status == 200 and answer.content == b"" and int(
        answer.headers["Content-Length"]) > 1000


@pytest.mark.parametrize("data", [
    b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: loc", b"GET / HTTP/1.1\r\nHost: localhost\r\n"])
def test_a_client_that_does_not_end_its_request_is_left(site, monkeypatch, data):
    monkeypatch.setattr(http_server, "REQUEST_S", 0.2)
    assert site.send(data) == b""


def test_a_client_that_drips_does_not_get_more_time(site, monkeypatch):
    monkeypatch.setattr(http_server, "REQUEST_S", 0.5)
    with site.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n")
        connection.settimeout(0.02)
        n_dripped, data = 0, b""
        while True:
            try:
                connection.sendall(b"X: a\r\n" if n_dripped % 20 == 0 else b"")
                piece = connection.recv(65536)
                if piece == b"":
                    break
                data += piece
            except TimeoutError:
                n_dripped += 1
                assert n_dripped < WAIT_S / 0.02
            except ConnectionError:
                break
    assert data == b""   # it was left, not refused for its hundredth line


def test_a_body_that_does_not_come_is_not_waited_for(site, brain, monkeypatch):
    monkeypatch.setattr(http_server, "REQUEST_S", 0.2)
    head = f"Authorization: Bearer {site.token}\r\nContent-Length: 50\r\n\r\n".encode()
    assert site.send(b"POST /ask HTTP/1.1\r\n" + HOST + head + b"{") == b"" and not brain.calls


def test_more_connections_than_there_is_room_for_keep_nobody_out(site):
    """Those end first that have waited longest without a request."""
    n_threads = threading.active_count()
    idle = [site.connect() for _ in range(3 * http_server.MAX_CONNECTIONS)]
    try:
        for _ in range(5):
            assert site.ask("/health").status == 200
        assert threading.active_count() - n_threads <= 2 * http_server.MAX_CONNECTIONS
        idle[0].settimeout(WAIT_S)
        assert read_all(idle[0]) == b""
    finally:
        for connection in idle:
            connection.close()


def test_a_client_that_does_not_read_its_answer_holds_up_no_other(site, brain, monkeypatch):
    monkeypatch.setattr(http_server, "SEND_S", 0.2)
    brain.text = b"x" * 4000
    body = b'{"prompt":"a","max_tokens":4000,"stream":true}'
    head = (f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer "
            f"{site.token}\r\nContent-Length: {len(body)}\r\n\r\n").encode()
    deaf = []
    for _ in range(3):
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        connection.connect(("127.0.0.1", site.port))
        connection.sendall(head + body)
        deaf.append(connection)
    brain.text = b"42"
    assert site.ask("/v1/completions", {"prompt": "12+30="}).json()["choices"][0]["text"] == "42"
    for connection in deaf:
        connection.close()


def test_a_fault_of_ours_is_a_line_and_not_the_end(site, brain, monkeypatch):
    def fault(*_):
        raise KeyError("a bug")
    monkeypatch.setattr("seed.serve.panel.Watched.status", fault)
    assert site.send(b"GET /status.json HTTP/1.1\r\n" + HOST + b"\r\n") == b""
    brain.ask = fault
    answer = site.ask("/ask", {"question": "a"})
    assert answer.status == 500 and b"a bug" not in answer.content
    assert site.log == [f"a {what} failed: KeyError: 'a bug'" for what in ("request", "question")]
    assert site.ask("/health").status == 200
