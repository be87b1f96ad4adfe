"""Bytes that are no text, as a brain reads and writes them: 0xFD to 0xFF, of which it has two for
the ends of answers and rows, are 0xFD and the value XOR 0x20, as in PPP (RFC 1662, 4.2)."""
import re


def escape(data: bytes) -> bytes:
    """Any bytes as a prompt for `generate_bytes` and `step`. Text stays as it is."""
    return re.sub(b"[\xfd-\xff]", lambda match: bytes((0xFD, match[0][0] ^ 0x20)), data)


def unescape(answer: bytes) -> bytes:
    """The inverse, of an answer's bytes; 0xFD before what it does not stand for stays."""
    return re.sub(b"\xfd([\xdd-\xdf])", lambda match: bytes((match[1][0] ^ 0x20,)), answer)


def as_text(answer: bytes, pad: int) -> str:
    """For a person to read; what is no text becomes the replacement character."""
    return unescape(answer.partition(bytes((pad,)))[0]).decode("utf-8", errors="replace")
