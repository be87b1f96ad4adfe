"""Who may ask what: hosts, origins and tokens, through real sockets."""
import re

import pytest

from seed.serve.access import Access, Refused

QUESTION = {"question": "12+30="}
READING = ["/", "/panel", "/status.json", "/report", "/chat", "/health", "/v1/models"]
ASKING = ["/ask", "/v1/completions", "/v1/chat/completions"]


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:{port}", "127.0.0.1", "127.0.0.1:{port}",
                                  "localhost:9000"])
def test_the_address_served_and_localhost_may_be_asked(site, host):
    assert site.ask("/health", Host=host.format(port=site.port)).status == 200


def test_a_server_of_both_families_answers_to_the_ipv4_address_that_it_prints():
    """A connection of IPv4 has a mapped address there (RFC 4291)."""
    access = Access("::", "token")
    access.check_source(["192.0.2.7:80"], [], "::ffff:192.0.2.7")
    access.check_source(["[::ffff:192.0.2.7]"], [], "::ffff:192.0.2.7")
    access.check_source(["[2001:db8::7]"], ["http://[2001:db8::7]"], "2001:db8::7")
    for host in ("192.0.2.8", "[::ffff:192.0.2.8]", "ffff:192.0.2.7"):
        with pytest.raises(Refused):
            access.check_source([host], [], "::ffff:192.0.2.7")


@pytest.mark.parametrize("host", [
    "evil.com", "evil.com:{port}", "127.0.0.1.evil.com", "localhost.evil.com", "127.0.0.2",
    "127.0.0.1@evil.com", "127.0.0.1:{port}:1", "[::1]", "0.0.0.0", "", "localhost:port",
    "127.0.0.1, evil.com", "2130706433", "127.1", "localhost\u00a0"])
@pytest.mark.parametrize("path", ["/", "/ask"])
def test_any_other_host_is_refused_with_a_token_too(site, host, path):
    answer = site.ask(path, QUESTION if path == "/ask" else None, Host=host.format(port=site.port))
    assert answer.status == 403 and "the Host of the request is not" in answer.json()["error"][
        "message"]


def test_a_request_with_no_host_or_two_is_refused(site):
    for hosts in (b"", b"Host: 127.0.0.1\r\nHost: evil.com\r\n", b"Host: a\r\n b\r\n"):
        assert b"403" in site.send(b"GET / HTTP/1.1\r\n" + hosts + b"\r\n").splitlines()[0]


@pytest.mark.parametrize("origin, status", [
    ("http://127.0.0.1:{port}", 200), ("http://localhost:{port}", 403), ("null", 403),
    ("https://127.0.0.1:{port}", 403), ("http://127.0.0.1", 403), ("http://evil.com", 403),
    ("http://127.0.0.1:{port}.evil.com", 403), ("", 403)])
def test_a_page_from_elsewhere_is_refused_even_with_the_token(site, origin, status):
    for path, body in (("/health", None), ("/ask", QUESTION)):
        assert site.ask(path, body, Origin=origin.format(port=site.port)).status == status


@pytest.mark.parametrize("path", ASKING)
@pytest.mark.parametrize("given", [
    "", "Bearer ", "Bearer wrong", "Basic {token}", "bearer {token}", "{token}", "Bearer {token}x",
    "Bearer {token}, Bearer {token}", "Bearer é"])
def test_questions_need_the_token(site, brain, path, given):
    answer = site.ask(path, QUESTION, Authorization=given.format(token=site.token).encode("latin1"))
    assert answer.status == 401 and answer.headers["WWW-Authenticate"] == "Bearer"
    assert "need the token" in answer.json()["error"]["message"] and not brain.calls


def test_the_token_counts_in_its_header_alone(site, brain):
    for path in (f"/ask?token={site.token}", f"/v1/completions?key={site.token}"):
        answer = site.ask(path, QUESTION, Authorization="", Cookie=f"token={site.token}")
        assert answer.status == 401 and not brain.calls


def test_two_authorizations_are_none(site):
    head = f"Authorization: Bearer {site.token}\r\n".encode()
    answer = site.send(b"POST /ask HTTP/1.1\r\nHost: localhost\r\n" + 2 * head + b"\r\n")
    assert b"401" in answer.splitlines()[0]


@pytest.mark.parametrize("path", READING)
def test_reading_needs_no_token_tells_none_and_loads_nothing_from_elsewhere(site, path):
    answer = site.ask(path)
    assert answer.status == 200 and site.token.encode() not in answer.content
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-store"
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'") and "frame-ancestors 'none'" in policy
    assert not re.search(r"unsafe|https?:|\*", policy)
    assert not {"Access-Control-Allow-Origin", "Set-Cookie"} & answer.headers.keys()


@pytest.mark.parametrize("method", ["OPTIONS", "PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "G E"])
def test_other_methods_do_nothing(site, brain, method):
    data = (f"{method} /ask HTTP/1.1\r\nHost: localhost\r\n"
            f"Authorization: Bearer {site.token}\r\n\r\n")
    head, _, content = site.send(data.encode()).partition(b"\r\n\r\n")
    assert re.match(rb"HTTP/1.1 (400|501) ", head) and content.count(b"\n") == 1
    assert b"Access-Control" not in head and not brain.calls


@pytest.mark.parametrize("path", ASKING)
def test_a_question_is_not_asked_by_following_a_link(site, brain, path):
    answer = site.ask(path, Authorization=f"Bearer {site.token}")
    assert answer.status == 405 and not brain.calls
