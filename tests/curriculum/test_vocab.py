"""All 256 byte values go into tokens without END and PAD, and back."""
import itertools
import random

from seed import runtime
from seed.curriculum.vocab import END, ESCAPE, PAD, decode, escape, unescape
from seed.runtime.escape import as_text


def test_every_byte_string_comes_back_from_its_tokens():
    rng = random.Random(0)
    short = [bytes(given) for n in range(3) for given in itertools.product(range(256), repeat=n)]
    special = [bytes(given) for n in range(7) for given in itertools.product(
        (0x41, 0xDD, 0xDF, ESCAPE, END, PAD), repeat=n)]
    long = [rng.randbytes(rng.randrange(2000)) for _ in range(200)]
    for data in itertools.chain(short, special, long):
        tokens = escape(data)
        assert unescape(tokens) == data and not {END, PAD} & set(tokens)
        assert len(tokens) == len(data) + sum(byte >= ESCAPE for byte in data)


def test_text_is_its_own_tokens_and_answers_are_shown_without_escapes():
    text = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x110000)]))
    assert escape(text.encode()) == unescape(text.encode()) == text.encode()
    assert decode(escape(b"a\xff\xfeb") + b"\xfec") == "a\ufffd\ufffdb"


def test_what_a_brain_writes_that_stands_for_no_byte_stays():
    for tokens in (b"\xfd", b"\xfda", b"\xfd\xfd\xdf"[:2], b"a\xfd\x20"):
        assert unescape(tokens) == tokens and escape(unescape(tokens)) != tokens


def test_a_robot_without_the_trainer_escapes_and_shows_the_same():
    rng = random.Random(1)
    for _ in range(2000):
        data = bytes(rng.choices((0x41, 0xC3, 0xB6, 0x20, 0xDF, ESCAPE, END, PAD), k=9))
        assert runtime.escape(data) == escape(data) and runtime.unescape(data) == unescape(data)
        tokens = data.replace(bytes((END,)), b"")
        assert as_text(tokens, PAD) == decode(tokens)
