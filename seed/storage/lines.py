"""Lines of files of any size, in bounded memory, from the first or from the last."""
import io
import sys
from collections.abc import Iterator
from typing import BinaryIO

MAX_LINE_BYTES = 2 ** 20   # a longer one was not written by a run
BLOCK_BYTES = 2 ** 16


def forward(file: BinaryIO, max_bytes: int = sys.maxsize) -> Iterator[bytes]:
    """Lines with their newline, from where the file is, of so many bytes together; an empty one for
    each too long one."""
    left = max_bytes

    def readline() -> bytes:
        nonlocal left
        line = file.readline(min(left, MAX_LINE_BYTES + 1))
        left -= len(line)
        return line
    while line := readline():
        if len(line) <= MAX_LINE_BYTES:
            yield line
            continue
        yield b""   # before the rest is skipped: who stops here does not read it
        while line and not line.endswith(b"\n"):
            line = readline()


def backward(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """(where it starts, line without its newline) from the last; an empty one for a too long one.
    """
    position = file.seek(0, io.SEEK_END)
    if position:
        file.seek(position - 1)
        position -= file.read(1) == b"\n"
    else:
        return
    end, is_long = b"", False   # of the line whose start is not read yet
    while position:
        size = min(BLOCK_BYTES, position)
        position -= size
        file.seek(position)
        data = file.read(size)
        while (newline := data.rfind(b"\n")) >= 0:
            yield position + newline + 1, b"" if is_long else data[newline + 1:] + end
            data, end, is_long = data[:newline], b"", False
        end = data + end
        if len(end) > MAX_LINE_BYTES:
            end, is_long = b"", True
    yield 0, b"" if is_long else end
