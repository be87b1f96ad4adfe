"""A language model behind any server that speaks the chat-completions protocol.

No completion is an EndpointError with its reason and what to do. The request is fitted to the
server: its path, when teacher.url leaves that open, the parameters that it refuses, and the
room for a thought, if the model thinks before it answers.
"""
import base64
import http.client
import json
import re
import socket
import ssl
from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, urlsplit

from seed.errors import ConfigError
from seed.interpreter import KEY_VARIABLE
from seed.practice.http_post import Response, Server, TooLong, post
from seed.practice.reply import EndpointError, after_thought

CHAT = "/chat/completions"
MAX_MESSAGE_CHARACTERS = 120   # of a server's message in ours
REFUSABLE = ("logprobs", "max_tokens", "temperature", "stop")   # in this order, if none is named
SAFE_IN_URL = "/%:@!$&'()*+,;=~?"
NO_SUCH_PATH = 404, 405
NOT_A_COMPLETION = "not a chat completion"


class Completion(NamedTuple):
    text: str
    logprob: float | None   # mean over the answer's tokens; None if the server does not report it
    cut_off: bool = False   # by max_tokens


class Endpoint:
    """`url` is the base, such as http://127.0.0.1:8080/v1, or the whole address.

    `key` is sent as a bearer token, or as Basic auth if it is user:password. `thought_tokens` is
    what a model that thinks may use for it.
    """

    def __init__(self, url: str, model: str, timeout_s: float, key: str = "",
                 logprobs: bool = True, thought_tokens: int = 1024):
        self.server, self.targets, self.headers = _address(url)
        self.headers |= _authorization(key, self.targets[0])
        sent = self.headers.get("Authorization", "").rpartition(" ")[2]
        self.secrets = [text for text in (key, sent, *key.split(":")) if text]
        self.model, self.timeout_s, self.has_key = model, timeout_s, bool(key)
        self.thought_tokens, self.thinks = thought_tokens, False
        self.refused = set() if logprobs else {"logprobs"}   # parameters that are not sent
        self.is_fitted = False   # to the server: a request has been accepted

    @property
    def url(self) -> str:
        """For messages: without the values of its query."""
        scheme = "https" if self.server.tls else "http"
        target = re.sub(r"=[^&]*", "=...", self.targets[0])
        return f"{scheme}://{_bracketed(self.server.host)}:{self.server.port}{target}"

    def complete(self, shots: Sequence[tuple[str, str]], prompt: str, max_tokens: int,
                 temperature: float = 0.0) -> Completion:
        """The model's reply to `prompt` after some questions and answers. Raises EndpointError."""
        messages = [{"role": role, "content": text} for shot in [*shots, (prompt,)]
                    for role, text in zip(("user", "assistant"), shot)]
        values = {"model": self.model, "messages": messages, "temperature": temperature,
                  "max_tokens": max_tokens, "logprobs": True,
                  "stop": ["\n"]}   # some models never end a turn
        completion = _completion(self._fitted(values))
        if completion is None and not self.thinks:
            self.thinks = True   # and a thought has several lines
            completion = _completion(self._fitted(values))
        if completion is None:
            raise EndpointError(
                "cut off in its thought", False, "turn the model's thinking off, or raise "
                f"teacher.thought_tokens ({self.thought_tokens}) and teacher.timeout_s")
        return completion

    def _fitted(self, values: dict[str, Any]) -> bytes:
        """The content of the response to a request in a form that the server accepts."""
        targets, refused = self.targets, self.refused
        errors: list[EndpointError] = []
        while True:
            try:
                response = self._post(self._body(values))
            except EndpointError:
                self.targets, self.refused = targets, refused
                raise
            if response.status == 200:
                self.is_fitted = True
                return response.content
            message = _message(response.content, self.secrets)
            errors.append(self._status_error(response, message))
            if self.is_fitted or not self._adapt(response.status, message, targets[0]):
                break
        self.refused = refused
        if response.status in NO_SUCH_PATH:
            self.targets = targets
        raise next(error for error in errors if error.reason == errors[-1].reason)

    def _adapt(self, status: int, message: str, first_target: str) -> bool:
        """Changes the form of the next request; False if nothing is left to change."""
        rotated = [*self.targets[1:], self.targets[0]]
        if status in NO_SUCH_PATH and rotated[0] != first_target:
            self.targets = rotated
            return True
        left = [name for name in REFUSABLE if name not in self.refused]
        if status not in (400, 422, 501) or not left:
            return False
        named = next((name for name in left if name in message), left[0])
        self.refused = self.refused | {named}
        return True

    def _body(self, values: dict[str, Any]) -> bytes:
        body = {name: value for name, value in values.items() if name not in self.refused}
        name = "max_completion_tokens" if "max_tokens" in self.refused else "max_tokens"
        body[name] = values["max_tokens"]
        if self.thinks:
            body.pop("stop", None)
            body[name] += self.thought_tokens
        return json.dumps(body).encode()

    def _post(self, body: bytes) -> Response:
        try:
            return post(self.server, self.targets[0], self.headers, body, self.timeout_s)
        except TimeoutError:
            raise EndpointError("too slow", True, "raise teacher.timeout_s "
                                f"({self.timeout_s:g} s) or ask a faster server") from None
        except TooLong:
            raise EndpointError("too long", False, "check that teacher.url is a chat-completions "
                                "server") from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _transport_error(error) from None

    def _status_error(self, response: Response, message: str) -> EndpointError:
        status, retryable = response.status, response.status >= 500 or response.status in (408, 429)
        fixes = {401: f"check {KEY_VARIABLE}" if self.has_key else f"set {KEY_VARIABLE}",
                 404: "check teacher.url and teacher.model", 400: "check teacher.model",
                 429: "raise teacher.every_steps or lower teacher.questions",
                 503: "wait until it has loaded its model"}
        fixes |= {403: fixes[401], 407: fixes[401], 405: fixes[404], 422: fixes[400]}
        if 300 <= status < 400:
            location = _printable(response.headers.get("Location") or "", self.secrets)
            return EndpointError(f"status {status}", False, "redirects are not followed: set "
                                 "teacher.url to the address itself", location.partition("?")[0])
        return EndpointError(f"status {status}", retryable, fixes.get(status, "see its log"),
                             message, _retry_after_s(response.headers))


def _address(url: str) -> tuple[Server, list[str], dict[str, str]]:
    """Server, the paths to try in turn, and the headers of a request. Raises ConfigError."""
    try:
        split = urlsplit(url.strip())
        host = unquote(split.hostname or "")   # of the zone in an IPv6 address
        name = _bracketed(host.partition("%")[0].encode("idna").decode())
        valid = (split.scheme in ("http", "https") and host and split.port != 0
                 and "@" not in split.netloc and not re.search(r"[\x00-\x20\x7f]", url.strip()))
        port = split.port
    except ValueError:   # of a port or an address
        valid = False
    if not valid:
        masked = re.sub("[^/]*@", "...@", url)
        raise ConfigError(f"teacher.url is {masked!r}: use http://host:port/v1")
    is_tls = split.scheme == "https"
    headers = {"Host": f"{name}:{port}" if port else name, "Connection": "close",
               "Content-Type": "application/json"}
    server = Server(host, port or (443 if is_tls else 80),
                    ssl.create_default_context() if is_tls else None)
    query = f"?{quote(split.query, safe=SAFE_IN_URL)}" if split.query else ""
    return server, [path + query for path in _paths(quote(split.path, safe=SAFE_IN_URL))], headers


def _paths(path: str) -> list[str]:
    """To try in turn: the whole path, a base with its version, or one without."""
    path = path.rstrip("/")
    if path.endswith(CHAT):
        return [path]
    base = re.sub(r"/(completions|chat|models)$", "", path)
    if re.search(r"/v\d+$", base):
        return [base + CHAT]
    return [f"{base}{CHAT}", f"{base}/v1{CHAT}"] if base else [f"/v1{CHAT}", CHAT]


def _authorization(key: str, target: str) -> dict[str, str]:
    """Headers. Raises ConfigError, which does not tell the key."""
    if not key:
        return {}
    if not re.fullmatch(r"[\x21-\x7e]+", key):
        raise ConfigError(f"{KEY_VARIABLE} has spaces or characters beyond ASCII: set it to the "
                          "key alone")
    if ":" in key:   # which no bearer token has (RFC 6750)
        return {"Authorization": f"Basic {base64.b64encode(key.encode()).decode()}"}
    azure = {"api-key": key} if "api-version=" in target else {}
    return {"Authorization": f"Bearer {key}", **azure}


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _transport_error(error: Exception) -> EndpointError:
    """Every failure of the line may pass: the server or the network may not be up yet."""
    check = "check teacher.url"
    if isinstance(error, ConnectionRefusedError):
        return EndpointError("connection refused", True, f"start the server or {check}")
    if isinstance(error, socket.gaierror):
        return EndpointError("unknown host", True, f"{check} and the network")
    if isinstance(error, ssl.SSLCertVerificationError):
        return EndpointError("certificate not trusted", True, "set SSL_CERT_FILE to a file with "
                             "the server's certificate", _printable(error.verify_message))
    if isinstance(error, ssl.SSLError):
        return EndpointError("TLS failed", True, "use http:// if the server has no TLS",
                             _printable(str(error.reason or "")))
    detail = _printable(error.strerror or "") if isinstance(error, OSError) else ""
    return EndpointError(f"broken: {type(error).__name__}", True,
                         f"{check} and the server's log", detail)


def _retry_after_s(headers: http.client.HTTPMessage) -> float | None:
    """Seconds, also where the server names a date: by its own clock, a board may have none."""
    text = (headers.get("Retry-After") or "").strip()
    if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", text):
        return float(text)
    try:
        wait = parsedate_to_datetime(text) - parsedate_to_datetime(headers.get("Date") or "")
        return max(0.0, wait.total_seconds())
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _message(content: bytes, secrets: Sequence[str]) -> str:
    """What a server says about a refused request; "" if it is not JSON in one of the usual forms"""
    try:
        error = json.loads(content)
        for key in ("error", "detail", "message", "msg"):
            error = error[0] if isinstance(error, list) and error else error
            error = error.get(key) or error if isinstance(error, dict) else error
    except (ValueError, RecursionError):
        return ""
    return _printable(error if isinstance(error, str) else json.dumps(error), secrets)


def _printable(text: str, secrets: Sequence[str] = ()) -> str:
    """Short, ASCII and without the key, which some servers repeat."""
    for secret in secrets:
        text = text.replace(secret, "...")
    text = re.sub(r"[^\x20-\x7e]+", " ", text).strip()
    return text if len(text) <= MAX_MESSAGE_CHARACTERS else text[:MAX_MESSAGE_CHARACTERS] + "..."


def _completion(content: bytes) -> Completion | None:
    """None for a thought without an answer. Raises EndpointError for what is no completion."""
    try:
        choice: Any = json.loads(content)["choices"][0]
        message, cut_off = choice["message"], choice.get("finish_reason") == "length"
        text = _text(message.get("content"))
        thought = any(message.get(key) for key in ("reasoning_content", "reasoning", "thinking"))
        if not isinstance(text, str) and not thought:
            raise ValueError
        text = text or ""
        answer = after_thought(text)
        if answer is None or thought and not answer.strip():
            return None
        tokens = (choice.get("logprobs") or {}).get("content") or []
        mean = _mean_logprob(tokens, has_thought=len(answer) < len(text))
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError,
            RecursionError):
        raise EndpointError(NOT_A_COMPLETION, False, "check that teacher.url is a "
                            "chat-completions server") from None
    return Completion(answer, mean, cut_off)


def _text(content: Any) -> Any:
    """Some servers send a list of parts, of which a thought is one."""
    if isinstance(content, list):
        return "".join(part["text"] for part in content if part.get("type") == "text")
    return content


def _mean_logprob(tokens: Sequence[Any], has_thought: bool) -> float | None:
    """Of the tokens after a thought."""
    if has_thought:
        text = "".join(token["token"] for token in tokens)
        begin, end = len(text) - len(after_thought(text) or ""), 0
        rest = []
        for token in tokens:
            rest += [token] if end >= begin else []
            end += len(token["token"])
        tokens = rest
    logprobs = [float(token["logprob"]) for token in tokens]
    mean = sum(logprobs) / len(logprobs) if logprobs else None
    return None if mean is None or mean != mean else mean
