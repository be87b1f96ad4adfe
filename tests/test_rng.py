"""Streams of random numbers: independent of each other, and the same every time."""
from seed.rng import Stream, dice, stream


def test_streams_differ_by_seed_purpose_and_index():
    keys = [(s, p, i) for s in (0, 1) for p in (Stream.INIT, Stream.BATCH) for i in (0, 1, 2)]
    assert len({stream(*key).bytes(16) for key in keys}) == len(keys)
    assert len({dice(*key).random() for key in keys}) == len(keys)


def test_a_stream_repeats_itself():
    assert stream(3, Stream.BATCH, 7).bytes(16) == stream(3, Stream.BATCH, 7).bytes(16)
    assert dice(3, Stream.BATCH, 7).random() == dice(3, Stream.BATCH, 7).random()
