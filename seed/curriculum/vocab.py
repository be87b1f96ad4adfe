"""The vocabulary: the 256 bytes. Specials are bytes that UTF-8 never uses."""
from collections.abc import Iterable

PAD = 0xFF  # fills a row's unused end
END = 0xFE  # ends every answer
VOCAB_SIZE = 256


def encode(text: str) -> bytes:
    return text.encode("utf-8")


def decode(tokens: Iterable[int]) -> str:
    """Text up to the first END or PAD; bytes that are not UTF-8 become the replacement mark."""
    out = bytearray()
    for token in tokens:
        if token in (END, PAD):
            break
        out.append(token)
    return out.decode("utf-8", errors="replace")
