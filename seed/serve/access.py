"""Who may ask what: the Host and Origin of a request, and the token for all but reading.

A page of somebody else's that a browser on this machine has open can send requests here. It cannot
read answers, unless its name is made to mean this address (DNS rebinding): then its requests name
that host. And it has no token, which is in no cookie, path or query, so that no browser sends it by
itself, and none passes it on in a Referer.
"""
import hmac
import re
import secrets
from typing import NamedTuple

TOKEN_BYTES = 16
HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(:[0-9]{1,5})?", re.ASCII)


class Refused(Exception):
    """A request that is not answered: the HTTP status, and a line for a person."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status


def new_token() -> str:
    return secrets.token_urlsafe(TOKEN_BYTES)


class Access(NamedTuple):
    """`host`: the name or address that was to be served."""
    host: str
    token: str

    def check_source(self, hosts: list[str], origins: list[str], address: str) -> None:
        """`address`: of this machine, that the connection came to. Raises Refused."""
        match = HOST.fullmatch(hosts[0].lower()) if len(hosts) == 1 else None
        mapped = address.removeprefix("::ffff:")   # IPv4, at a server of both families
        allowed = {"localhost", self.host.lower(), address, mapped}
        if not match or match[1].strip("[]") not in allowed:
            raise Refused(403, f"the Host of the request is not {' or '.join(sorted(allowed))}: "
                          f"open the address that seed serve has printed")
        if origins and [origin.lower() for origin in origins] != [f"http://{hosts[0].lower()}"]:
            raise Refused(403, "the request is of a page from elsewhere: open the address that "
                          "seed serve has printed")

    def check_token(self, authorizations: list[str]) -> None:
        """Raises Refused."""
        expected = f"Bearer {self.token}".encode()
        given = authorizations[0].encode("utf-8", "replace") if len(authorizations) == 1 else b""
        if not hmac.compare_digest(given, expected):
            raise Refused(401, "questions need the token that seed serve has printed: send it as "
                          "Authorization: Bearer TOKEN")
