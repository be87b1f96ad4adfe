"""The vocabulary: the 256 byte values. Special tokens are bytes that UTF-8 never uses.

Bytes that are no text are stuffed as in PPP (RFC 1662, 4.2): 0xFD to 0xFF become ESCAPE and the
byte XOR 0x20, which are two tokens; all other bytes stay, so text is never changed.
"""
import re

VOCAB_SIZE = 256
PAD = 0xFF      # fills a row's unused end
END = 0xFE      # ends every answer
ESCAPE = 0xFD   # comes before what stands for one of these three
ESCAPE_XOR = 0x20


def escape(data: bytes) -> bytes:
    """Any bytes as tokens, without END and PAD."""
    return re.sub(b"[\xfd-\xff]", lambda match: bytes((ESCAPE, match[0][0] ^ ESCAPE_XOR)), data)


def unescape(tokens: bytes) -> bytes:
    """The inverse; ESCAPE before any other byte, as a brain may write it, stays."""
    return re.sub(b"\xfd([\xdd-\xdf])", lambda match: bytes((match[1][0] ^ ESCAPE_XOR,)), tokens)


def encode(text: str) -> bytes:
    return text.encode("utf-8")


def decode(tokens: bytes) -> str:
    """Text up to the first END or PAD; invalid UTF-8 becomes the replacement character."""
    data = unescape(tokens.partition(bytes((END,)))[0].partition(bytes((PAD,)))[0])
    return data.decode("utf-8", errors="replace")
