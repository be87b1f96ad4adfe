"""The vocabulary: the 256 byte values. Special tokens are bytes that UTF-8 never uses."""
from collections.abc import Iterable
from itertools import takewhile

VOCAB_SIZE = 256
PAD = 0xFF  # fills a row's unused end
END = 0xFE  # ends every answer


def encode(text: str) -> bytes:
    return text.encode("utf-8")


def decode(tokens: Iterable[int]) -> str:
    """Text up to the first END or PAD; invalid UTF-8 becomes the replacement character."""
    text = bytes(takewhile(lambda token: token not in (END, PAD), tokens))
    return text.decode("utf-8", errors="replace")
