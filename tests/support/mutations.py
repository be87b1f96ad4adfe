"""Exported files that another has changed at random, with a right checksum.

`python -m tests.support.mutations FILE...` uses files in little memory: a line each, "answered"
or "refused" and the message. A file that crashes the runtime ends the process.
"""
import random
import resource
import struct
import sys
from pathlib import Path

from seed.runtime import CHECKSUM_DIGITS, CHECKSUM_KEY, Brain, BrainError, seal

MAX_MEMORY = 3 * 2 ** 30     # address space of the process
WORDS = (0, 1, 2, 3, 4, 5, 9, 64, 255, 256, 2 ** 16, 2 ** 20, 2 ** 27, 2 ** 30, 2 ** 31 - 1,
         2 ** 31, 2 ** 32 - 8, 2 ** 32 - 4, 2 ** 32 - 2, 2 ** 32 - 1)


class Mutator:
    """Changes of one sealed file. The same number gives the same change."""

    def __init__(self, data: bytes):
        self.data = data
        self.text = data.index(CHECKSUM_KEY) + len(CHECKSUM_KEY) + CHECKSUM_DIGITS
        self.places = buffers(data)
        self.structure = min(start for start, _ in self.places) - 4
        words = struct.unpack_from(f"<{self.structure // 4}I", data)
        self.small = [4 * i for i, word in enumerate(words) if word < 512]

    def mutation(self, number: int) -> bytes:
        """One to three changes."""
        rng, data = random.Random(number), bytearray(self.data)
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            change_fn = rng.choice((self.byte, self.word, self.word, self.small_word,
                                    self.small_word, self.small_word, self.swap, self.copy,
                                    self.buffer, self.buffer))
            change_fn(rng, data)
        if data.find(CHECKSUM_KEY) < 0:
            return bytes(data)
        return seal(bytes(data))

    def byte(self, rng: random.Random, data: bytearray) -> None:
        data[rng.randrange(8, self.structure)] = rng.randrange(256)

    def word(self, rng: random.Random, data: bytearray) -> None:
        value = rng.choice((*WORDS, rng.randrange(2 ** 32), rng.randrange(len(data))))
        struct.pack_into("<I", data, 4 * rng.randrange(2, self.structure // 4), value)

    def small_word(self, rng: random.Random, data: bytearray) -> None:
        """An index, a dimension, an option or the length of a vector."""
        at = rng.choice(self.small)
        word = struct.unpack_from("<I", data, at)[0]
        value = rng.choice((*WORDS, word + 1, word - 1, 2 * word, word // 2, rng.randrange(512)))
        struct.pack_into("<I", data, at, value % 2 ** 32)

    def swap(self, rng: random.Random, data: bytearray) -> None:
        a, b = (4 * rng.randrange(2, self.structure // 4) for _ in range(2))
        data[a:a + 4], data[b:b + 4] = data[b:b + 4], data[a:a + 4]

    def copy(self, rng: random.Random, data: bytearray) -> None:
        size = 4 * rng.randrange(1, 17)
        a, b = (4 * rng.randrange(2, (self.structure - size) // 4) for _ in range(2))
        data[a:a + size] = data[b:b + size]

    def buffer(self, rng: random.Random, data: bytearray) -> None:
        """A word of a buffer, in most of them an axis, a shape or a number."""
        start, size = rng.choice(self.places)
        value = rng.choice((*WORDS, rng.randrange(2 ** 32), 0x7f800000, 0x7fc00000, 0x7149f2ca))
        struct.pack_into("<I", data, start + 4 * rng.randrange((size + 3) // 4), value)


def buffers(data: bytes) -> list[tuple[int, int]]:
    """Start and size of the buffers that have bytes."""
    def follow(at: int, slot: int) -> int:
        """The child in a slot of the table at `at`; 0 if absent."""
        vtable = at - struct.unpack_from("<i", data, at)[0]
        offset = struct.unpack_from("<H", data, vtable + 4 + 2 * slot)[0] if (
            4 + 2 * slot < struct.unpack_from("<H", data, vtable)[0]) else 0
        return at + offset + struct.unpack_from("<I", data, at + offset)[0] if offset else 0

    vector = follow(struct.unpack_from("<I", data)[0], 4)
    tables = [at + struct.unpack_from("<I", data, at)[0] for at in range(
        vector + 4, vector + 4 + 4 * struct.unpack_from("<I", data, vector)[0], 4)]
    starts = [start for start in (follow(table, 0) for table in tables) if start]
    return [(start + 4, struct.unpack_from("<I", data, start)[0]) for start in starts]


def use(path: Path) -> str:
    """What becomes of a file: every method of a Brain, twice."""
    try:
        brain = Brain(path)
        for _ in range(2):
            brain.reset()
            brain.step(0)
            brain.step(255)
            brain.prefill(b"12+30=abc>")
            brain.generate("12+30=", 3, temperature=1.0)
    except BrainError as error:
        assert "\n" not in str(error) and len(str(error)) < 500 and path.name in str(error)
        return f"refused {error}"
    return "answered"


def main(*paths: str) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    for path in paths:
        print(use(Path(path)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
