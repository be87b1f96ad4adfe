"""The vocabulary: the 256 byte values. Special tokens are bytes that UTF-8 never uses."""

VOCAB_SIZE = 256
PAD = 0xFF  # fills a row's unused end
END = 0xFE  # ends every answer


def encode(text: str) -> bytes:
    return text.encode("utf-8")


def decode(tokens: bytes) -> str:
    """Text up to the first END or PAD; invalid UTF-8 becomes the replacement character."""
    text = tokens.partition(bytes((END,)))[0].partition(bytes((PAD,)))[0]
    return text.decode("utf-8", errors="replace")
