"""Servers and addresses as people have them: what a client has to understand."""
import pytest

from seed.errors import ConfigError
from seed.practice.endpoint import Endpoint, EndpointError
from seed.profile_file import load_profile
from tests.support.chat_server import ChatServer, completion, send
from tests.support.odd_servers import KEY, ODD, needs_key, refuse, refuses, sum_of, thinks


def answers(endpoint: Endpoint, n: int = 2) -> list[str]:
    return [endpoint.complete([("1+1=", "2")], f"{i}+40=", 8).text.strip() for i in range(n)]


def fault_of(endpoint: Endpoint) -> str:
    with pytest.raises(EndpointError) as error:
        endpoint.complete([], "1+1=", 8)
    return error.value.describe()


@pytest.mark.parametrize("kind", ODD)
def test_a_right_server_is_understood_whatever_is_odd_about_it(kind):
    with ChatServer(ODD[kind]) as server:
        assert answers(Endpoint(server.url, "tiny", 5.0)) == ["40", "41"]


def test_what_a_server_refuses_is_found_out_once():
    with ChatServer(refuses("logprobs", "stop")) as server:
        answers(Endpoint(server.url, "tiny", 5.0), 5)
        assert len(server.requests) == 2 + 5
    with ChatServer(lambda handler, _: refuse(handler, 400, "context")) as server:
        endpoint = Endpoint(server.url, "tiny", 5.0)
        assert fault_of(endpoint) == "status 400 (context); check teacher.model"
        assert not endpoint.refused and len(server.requests) == 5


@pytest.mark.parametrize("path, served, expected", [
    ("", "/v1/chat/completions", None), ("/", "/v1/chat/completions", None),
    ("/v1", "/v1/chat/completions", None), ("/v1/", "/v1/chat/completions", None),
    ("/v1/chat/completions", "/v1/chat/completions", None),
    ("/chat/completions/", "/chat/completions", None), ("", "/chat/completions", None),
    ("/v1/completions", "/v1/chat/completions", None), ("/proxy", "/proxy/chat/completions", None),
    ("/proxy", "/proxy/v1/chat/completions", None), ("/v4", "/v4/chat/completions", None),
    ("/v1?api-version=7&x=a%20b", "/v1/chat/completions?api-version=7&x=a%20b", None),
    ("/v1?a=b", "/v2/chat/completions", "status 404 (no such page); check teacher.url and "
     "teacher.model")])
def test_a_base_url_is_understood_as_people_type_it(path, served, expected):
    def answer(handler, request):
        if handler.path != served:
            return refuse(handler, 404, "no such page")
        send(handler, completion(sum_of(request)))
    with ChatServer(answer) as server:
        endpoint = Endpoint(server.url.removesuffix("/v1") + path, "", 5.0)
        if expected is None:
            assert answers(endpoint) == ["40", "41"]
        else:
            assert fault_of(endpoint) == expected and endpoint.url.endswith("?a=...")


def test_a_path_that_is_there_tells_its_own_fault():
    """The first path that is tried is not the one that answers."""
    def answer(handler, _):
        is_there = handler.path == "/proxy/v1/chat/completions"
        refuse(handler, 401 if is_there else 404, "no")
    with ChatServer(answer) as server:
        endpoint = Endpoint(server.url.replace("/v1", "/proxy"), "", 5.0)
        assert fault_of(endpoint) == "status 401 (no); set SEED_TEACHER_KEY"
        assert endpoint.url.endswith("/proxy/v1/chat/completions")


@pytest.mark.parametrize("key, expected", [
    ("", "set SEED_TEACHER_KEY"), ("wrong-key", "check SEED_TEACHER_KEY"),
    ("user:pass-word", "check SEED_TEACHER_KEY")])
def test_a_key_is_sent_and_a_server_that_repeats_it_does_not_get_it_into_a_message(key, expected):
    with ChatServer(needs_key) as server:
        assert answers(Endpoint(server.url, "", 5.0, KEY)) == ["40", "41"]
        fault = fault_of(Endpoint(server.url, "", 5.0, key))
        assert fault.startswith("status 401 (Incorrect API key") and fault.endswith(expected)
        sent = server.requests[-1][1].get("Authorization", "")
    assert sent.split(" ")[0] == {"": "", "w": "Bearer", "u": "Basic"}[key[:1]]
    assert not any(secret in fault for secret in [*key.split(":"), sent.split(" ")[-1]] if secret)


@pytest.mark.parametrize("key", ["two words", "line\nX-Evil: 1", "schlüssel"])
def test_a_key_that_no_header_can_hold_is_refused_without_being_told(key):
    with pytest.raises(ConfigError, match="^SEED_TEACHER_KEY has spaces or") as error:
        Endpoint("http://there/v1", "", 1.0, key)
    assert key not in str(error.value)


@pytest.mark.parametrize("url", ["http://user:secret@there/v1", "https://secret@there",
                                 "user:secret@there/v1"])
def test_a_password_in_the_url_is_refused_by_name_before_it_is_saved(url):
    with pytest.raises(ConfigError, match="put user:password into SEED_TEACHER_KEY") as error:
        load_profile("toy", [f"teacher.url={url}"])
    assert "secret" not in str(error.value)
    with pytest.raises(ConfigError) as error:
        Endpoint(url, "", 1.0)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("url, host", [
    ("http://there/v1", "there"), ("https://there:443/v1", "there:443"),
    ("http://[::1]:8080/v1", "[::1]:8080"), ("http://[fe80::1%25eth0]/", "[fe80::1]"),
    ("http://münchen.example/v1", "xn--mnchen-3ya.example")])
def test_the_host_header_is_as_rfc_9110_says(url, host):
    assert Endpoint(url, "", 1.0).headers["Host"] == host


def test_a_server_on_ipv6_is_asked():
    try:
        server = ChatServer(ODD["chunked, kept open"], "::1")
    except OSError:
        pytest.skip("no IPv6 on this machine")
    with server:
        assert answers(Endpoint(server.url, "", 5.0)) == ["40", "41"]
        assert server.requests[0][1]["Host"] == server.url[len("http://"):-len("/v1")]


def test_a_thought_that_never_ends_is_named_with_its_fix():
    with ChatServer(lambda handler, request: send(handler, completion(
            "<think>" + "Hm. " * 99, finish_reason="length"))) as server:
        assert fault_of(Endpoint(server.url, "", 5.0, thought_tokens=99)) == (
            "cut off in its thought; turn the model's thinking off, or raise "
            "teacher.thought_tokens (99) and teacher.timeout_s")


def test_only_the_answer_s_tokens_tell_how_sure_a_model_is_that_thinks():
    tokens = [("<think>", -9.0), ("Hm.", -9.0), ("</think>", -9.0), ("4", -0.25), ("0", -0.75)]
    content = {"content": [{"token": text, "logprob": logprob} for text, logprob in tokens]}
    with ChatServer(lambda handler, _: send(handler, completion(
            "<think>Hm.</think>40", logprobs=content))) as server:
        completed = Endpoint(server.url, "", 5.0).complete([], "0+40=", 8)
    assert completed == ("40", -0.5, False)


def test_a_thought_does_not_hide_that_the_answer_was_cut_off():
    def answer(handler, request):
        if "stop" in request:
            return thinks(handler, request)
        send(handler, completion("<think>Hm.</think>4", finish_reason="length"))
    with ChatServer(answer) as server:
        assert Endpoint(server.url, "", 5.0).complete([], "0+40=", 8) == ("4", None, True)


@pytest.mark.parametrize("headers, expected", [
    ({"Retry_After": "7"}, 7.0), ({"Retry_After": "x"}, None), ({}, None),
    ({"Retry_After": "-3"}, None), ({"Retry_After": "nan"}, None),
    ({"Retry_After": "Sun, 06 Nov 1994 08:50:07 GMT", "Date": "Sun, 06 Nov 1994 08:49:37 GMT"},
     30.0)])
def test_retry_after_is_read(headers, expected):
    def answer(handler, _):
        handler.date_time_string = lambda: headers.get("Date", "")
        refuse(handler, 429, "slow down", **{k: v for k, v in headers.items() if k != "Date"})
    with ChatServer(answer) as server, pytest.raises(EndpointError) as error:
        Endpoint(server.url, "", 5.0).complete([], "1+1=", 8)
    assert error.value.retry_after_s == expected and error.value.retryable


def test_a_message_of_a_server_is_printed_safely():
    with ChatServer(lambda handler, _: refuse(handler, 500, "\x1b[2Jü\n" + 999 * "x")) as server:
        fault = fault_of(Endpoint(server.url, "", 5.0))
    assert fault.isascii() and fault.isprintable() and len(fault) < 200


def test_faults_of_the_line_are_named_with_what_to_do():
    unknown = fault_of(Endpoint("http://no-such-host.invalid/v1", "", 9.0))
    assert unknown == "unknown host; check teacher.url and the network"
    with ChatServer(lambda handler, request: None) as server:
        plain = fault_of(Endpoint(server.url.replace("http:", "https:"), "", 9.0))
    assert plain.startswith("TLS failed (")
    assert plain.endswith("use http:// if the server has no TLS")
