"""A kernel set is used whole, from its owner alone, on the CPU that it was made for."""
import json
import os
import platform

import pytest

from seed.errors import KernelSetError
from seed.wavecore import kernel_set
from seed.wavecore.cpu import NAMED, Target, find_target
from seed.wavecore.kernel_set import KernelSet, key, read, read_all, write

OBJECTS = {key("one"): b"machine code", key("two"): b"", key("three"): bytes(range(256))}


def a_set(target: Target) -> KernelSet:
    return KernelSet(target, "seed kernels", "clang version 19", OBJECTS)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(kernel_set.VARIABLE, str(tmp_path))
    return tmp_path


@pytest.fixture
def path(folder):
    write(folder / "a.kernels", a_set(find_target("native")))
    return folder / "a.kernels"


def test_a_set_is_read_as_it_was_written(path):
    assert read(path) == a_set(find_target("native"))
    assert read_all() == ([read(path)], "")


@pytest.mark.attack
def test_every_flipped_bit_and_every_cut_is_refused(path):
    """Own: every bit of a kernel set."""
    whole = path.read_bytes()
    for at in range(8 * len(whole)):
        flipped = bytearray(whole)
        flipped[at // 8] ^= 1 << at % 8
        path.write_bytes(flipped)
        with pytest.raises(KernelSetError, match="a.kernels is damaged.*seed kernels"):
            read(path)
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(KernelSetError, match="a.kernels is damaged"):
            read_all()


@pytest.mark.attack
@pytest.mark.parametrize("spoil_fn", [
    lambda path: path.chmod(0o664), lambda path: path.chmod(0o646),
    lambda path: os.chown(path, 12345, -1)], ids=["group", "anybody", "another user"])
def test_a_set_that_others_may_change_is_refused(path, spoil_fn):
    """Own: a kernel set that somebody else has made, or may change."""
    spoil_fn(path)
    with pytest.raises(KernelSetError, match="others may change"):
        read_all()


@pytest.mark.attack
@pytest.mark.parametrize("make_fn", [os.mkfifo, os.mkdir], ids=["a pipe", "a directory"])
def test_what_is_no_file_is_refused(folder, make_fn):
    """Own: a FIFO or a folder in place of a kernel set."""
    make_fn(folder / "a.kernels")
    with pytest.raises(OSError, match="a.kernels"):
        read_all()


@pytest.mark.attack
@pytest.mark.parametrize("change", [
    {"cpu": None}, {"cpu": ["native"]}, {"cpu": [1, 2, ["x"]]}, {"cpu": ["a", "b", [1]]},
    {"sizes": []}, {"sizes": {"a": "1"}}, {"sizes": {"a": -1}}, {"sizes": {"a": 10 ** 9}},
    {"sizes": {}}, {"made_by": 1}, {"compiler": None}, "not JSON", [], {}], ids=str)
def test_a_sealed_set_that_is_none_is_refused_before_its_code_is_used(path, change):
    """Own: a set whose digest is right, and whose line of JSON is not: of another version."""
    body = path.read_bytes()[len(kernel_set.MAGIC) + kernel_set.DIGEST_BYTES:]
    line, _, code = body.partition(b"\n")
    whole = json.loads(line)
    text = json.dumps({**whole, **change} if isinstance(change, dict) and change else change)
    body = (text[1:] if change == "not JSON" else text).encode() + b"\n" + code
    path.write_bytes(kernel_set.MAGIC + kernel_set._digest(body) + body)
    with pytest.raises(KernelSetError, match="a.kernels is damaged, or of another version"):
        read_all()


def test_a_set_for_another_cpu_is_left_out_with_its_reason(path, folder):
    foreign = next(target for target in NAMED.values() if target.machine != platform.machine())
    write(folder / "b.kernels", a_set(foreign))
    sets, reason = read_all()
    assert sets == [read(path)] and reason == (
        f"b.kernels: it is for {foreign.machine}, and this machine is {platform.machine()}")


def test_a_named_directory_has_to_be_there(folder, monkeypatch):
    monkeypatch.setenv(kernel_set.VARIABLE, str(folder / "none"))
    with pytest.raises(KernelSetError, match="SEED_KERNELS is .*none.* not a directory"):
        read_all()
    monkeypatch.delenv(kernel_set.VARIABLE)
    assert kernel_set.folder().parent.joinpath("csrc").is_dir()
