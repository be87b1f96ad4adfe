"""Random and hostile profiles and checkpoints end in one clear line, never in more."""
import json
import os
import pickle
import random
import struct
import tracemalloc

import numpy as np
import pytest

from seed.config import Profile, from_dict
from seed.errors import CheckpointError, ConfigError
from seed.profile_file import load_profile, to_toml
from seed.storage import RunDir
from seed.storage import checkpoint
from seed.storage.checkpoint import CHECKSUM, ZEROS
from tests.support.small_checkpoint import META, TENSORS

FUZZED = [2_000, pytest.param(10_000, marks=pytest.mark.long)]
JUNK = (None, True, -1, 0, 2 ** 70, 1e308, float("nan"), float("inf"), "", "x" * 300, "\0", [],
        [[]], {}, {"a": {"b": 1}}, [1, "2"], -0.5, "🤖")


def mangled(value, dice: random.Random):
    """A copy with one thing changed, taken away or added somewhere."""
    if isinstance(value, dict) and value and dice.random() < 0.9:
        key = dice.choice(list(value))
        changed, kind = dict(value), dice.random()
        if kind < 0.1:
            del changed[key]
        elif kind < 0.2:
            changed[dice.choice(("", key + "x", "__proto__", "a.b"))] = dice.choice(JUNK)
        else:
            changed[key] = mangled(value[key], dice)
        return changed
    if isinstance(value, list) and value and dice.random() < 0.8:
        i = dice.randrange(len(value))
        return [*value[:i], mangled(value[i], dice), *value[i + 1:]]
    return dice.choice(JUNK)


def flipped(data: bytes, dice: random.Random) -> bytes:
    """Some bytes changed, cut out, doubled or put in."""
    for _ in range(dice.randint(1, 4)):
        at, n = dice.randrange(len(data)), dice.randint(0, 6)
        middle = dice.choice((b"", dice.randbytes(n), data[at:at + n] * 2, b"9" * n, b'"', b"{"))
        data = data[:at] + middle + data[at + n:]
        data = data or b" "
    return data


def one_line(error: Exception) -> str:
    text = str(error)
    assert text and "\n" not in text and len(text) < 1000, text
    return text


@pytest.mark.parametrize("count", FUZZED)
def test_a_random_profile_is_valid_or_refused_in_one_line(tmp_path, count):
    dice, path = random.Random(0), tmp_path / "fuzzed.toml"
    toy, accepted = load_profile("toy"), 0
    whole, text = toy.to_dict(), to_toml(toy).encode()
    for i in range(count):
        try:
            if i % 2:
                profile = from_dict(mangled(whole, dice))
            else:
                path.write_bytes(flipped(text, dice))
                profile = load_profile(str(path))
        except ConfigError as error:
            one_line(error)
        else:
            assert isinstance(profile, Profile) and from_dict(profile.to_dict()) == profile
            accepted += 1
    assert 0.02 * count < accepted < 0.6 * count


def sealed(header: bytes, body: bytes) -> bytes:
    """A file whose length and checksum are right, whatever its header contains."""
    data = struct.pack("<Q", len(header)) + header + body
    at = data.find(CHECKSUM)
    if at < 0:
        return data
    at += len(CHECKSUM)
    data = data[:at] + ZEROS + data[at + len(ZEROS):]
    return data[:at] + checkpoint._digest(data) + data[at + len(ZEROS):]


def parts(path) -> tuple[dict, dict, bytes]:
    """A checkpoint's header, its own metadata and its tensors' bytes."""
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + size])
    return header, json.loads(header["__metadata__"]["seed"]), data[8 + size:]


@pytest.mark.parametrize("count", FUZZED)
def test_a_random_checkpoint_header_is_valid_or_refused_in_one_line(tmp_path, count):
    """Three quarters of them with a matching checksum, which only detects accidental damage."""
    dice, path = random.Random(1), RunDir(tmp_path).checkpoint
    RunDir(tmp_path).save(TENSORS, META)
    header, meta, body = parts(path)
    whole, accepted = path.read_bytes(), 0
    for i in range(count):
        if i % 4 == 0:
            size = 8 + struct.unpack("<Q", whole[:8])[0]
            data = flipped(whole[:size], dice) + whole[size:]
        elif i % 4 == 1:
            data = sealed(flipped(json.dumps(header).encode(), dice), body)
        elif i % 4 == 2:
            data = sealed(json.dumps(mangled(header, dice)).encode(), body)
        else:
            text = json.dumps(mangled(meta, dice), separators=(",", ":"))
            data = sealed(json.dumps({**header, "__metadata__": {"seed": text}}).encode(), body)
        path.write_bytes(data)
        try:
            loaded = checkpoint.read(path)
            checkpoint.check_tensors(loaded.tensors, TENSORS, "checkpoint.safetensors")
        except CheckpointError as error:
            assert "checkpoint.safetensors" in one_line(error)
        else:
            from_dict(loaded.meta["profile"])
            assert type(loaded.meta["step"]) is int and loaded.meta["step"] >= 0
            accepted += 1
    assert 0 < accepted < 0.3 * count


def forged(tmp_path, **changes) -> bytes:
    """A checkpoint with a matching checksum, whose header describes tensor `a` differently."""
    RunDir(tmp_path).save(TENSORS, META)
    header, _, body = parts(RunDir(tmp_path).checkpoint)
    header["a"] |= changes
    return sealed(json.dumps(header).encode(), body)


HOSTILE = {
    "a pickle": lambda folder: pickle.dumps({"weights": [1.0] * 50}, protocol=4),
    "a header of 2^60 bytes": lambda folder: struct.pack("<Q", 2 ** 60) + b"{}" * 50,
    "a header of 90 MB": lambda folder: struct.pack("<Q", 90 * 2 ** 20) + b"[" * 90 * 2 ** 20,
    "a deep header": lambda folder: struct.pack("<Q", 10 ** 6) + b"[" * 10 ** 6,
    "overlapping offsets": lambda folder: forged(folder, data_offsets=[4, 24]),
    "offsets out of range": lambda folder: forged(folder, data_offsets=[0, 2 ** 40]),
    "negative offsets": lambda folder: forged(folder, data_offsets=[-20, 0]),
    "trailing bytes": lambda folder: forged(folder) + b"\0" * 64,
    "an absurd shape": lambda folder: forged(folder, shape=[2 ** 40, 2 ** 20]),
    "a shape that overflows": lambda folder: forged(folder, shape=[2 ** 32, 2 ** 32, 5]),
    "another type": lambda folder: forged(folder, dtype="F64"),
    "an unknown type": lambda folder: forged(folder, dtype="OBJECT")}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_checkpoint_is_refused_by_name_and_takes_no_memory(tmp_path, kind):
    data = HOSTILE[kind](tmp_path)
    path = RunDir(tmp_path).checkpoint
    path.write_bytes(data)
    tracemalloc.start()
    with pytest.raises(CheckpointError, match="checkpoint.safetensors") as error:
        checkpoint.read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    one_line(error.value)
    assert peak < 30 * 2 ** 20


def test_a_file_larger_than_the_memory_is_refused_unread(tmp_path):
    RunDir(tmp_path).save({"a": np.zeros(3, np.float32)}, META)
    os.truncate(RunDir(tmp_path).checkpoint, 2 ** 40)   # a sparse file: it takes no room
    with pytest.raises(CheckpointError, match="more than half of the available memory"):
        checkpoint.read(RunDir(tmp_path).checkpoint)
