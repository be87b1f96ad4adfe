"""A checkpoint is whole or refused by name; one generation always survives."""
import os
import pickle

import numpy as np
import pytest

from seed.storage import RunDir, checkpoint
from seed.errors import CheckpointError
from tests.support.small_checkpoint import META, TENSORS

NAME, PREVIOUS = "checkpoint.safetensors", "checkpoint.previous.safetensors"


def no_warning(text: str) -> None:
    raise AssertionError(text)


def test_what_is_saved_is_read_back_and_the_bytes_are_always_the_same(tmp_path):
    RunDir(tmp_path).save(TENSORS, META | {"step": 7})
    first = RunDir(tmp_path).checkpoint.read_bytes()
    newest = RunDir(tmp_path).load_newest(no_warning)
    assert newest.meta["step"] == 7
    assert newest.tensors.keys() == TENSORS.keys()
    assert all(np.array_equal(newest.tensors[k], TENSORS[k]) for k in TENSORS)
    RunDir(tmp_path).save(TENSORS, META | {"step": 7})
    assert RunDir(tmp_path).checkpoint.read_bytes() == first
    assert RunDir(tmp_path).previous_checkpoint.read_bytes() == first
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([NAME, PREVIOUS])


def test_an_empty_directory_has_no_checkpoint(tmp_path):
    assert RunDir(tmp_path).load_newest(no_warning) is None


@pytest.mark.parametrize("damage", [
    lambda data: b"", lambda data: data[:7], lambda data: data[:len(data) // 2],
    lambda data: data[:-1], lambda data: data + b"x", lambda data: b"\xff" * len(data),
    lambda data: pickle.dumps({"a": 1}), lambda data: b"PK\x03\x04" + data],
    ids=["empty", "short", "half", "last byte gone", "trailing byte", "ones", "pickle", "zip"])
def test_a_damaged_newest_generation_falls_back_and_says_so(tmp_path, damage):
    RunDir(tmp_path).save(TENSORS, META | {"step": 1})
    RunDir(tmp_path).save(TENSORS, META | {"step": 2})
    newest = RunDir(tmp_path).checkpoint
    newest.write_bytes(damage(newest.read_bytes()))
    messages = []
    assert RunDir(tmp_path).load_newest(messages.append).meta["step"] == 1
    assert len(messages) == 1 and NAME in messages[0] and "\n" not in messages[0]
    RunDir(tmp_path).previous_checkpoint.unlink()
    with pytest.raises(CheckpointError, match="no other generation"):
        RunDir(tmp_path).load_newest(messages.append)


@pytest.mark.parametrize("fails", ["", "previous", "newest", "directory"])
def test_after_a_fall_back_no_save_harms_the_good_generation(tmp_path, monkeypatch, fails):
    """Otherwise the next save would replace the good generation by the damaged one."""
    for step in (1, 2):
        RunDir(tmp_path).save(TENSORS, META | {"step": step})
    RunDir(tmp_path).checkpoint.write_bytes(b"damaged")
    messages = []
    assert RunDir(tmp_path).recover(messages.append).meta["step"] == 1
    assert len(messages) == 1 and "checkpoint.damaged.safetensors" in messages[0]
    assert RunDir(tmp_path).damaged_checkpoint.read_bytes() == b"damaged"

    def failing(call, at):
        def replaced(*args, **options):
            if at in str(args[-1]):
                raise OSError(5, "Input/output error")
            return call(*args, **options)
        return replaced
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.os, "replace", failing(os.replace, {
            "previous": PREVIOUS, "newest": NAME}.get(fails, "nothing")))
        if fails == "directory":
            sync = os.fsync
            patch.setattr(checkpoint.os, "fsync", lambda one: sync(one) if os.path.isfile(
                f"/proc/self/fd/{one}") else failing(sync, "")(one))
        if fails:
            with pytest.raises(OSError):
                RunDir(tmp_path).save(TENSORS, META | {"step": 3})
        else:
            RunDir(tmp_path).save(TENSORS, META | {"step": 3})
    newest = RunDir(tmp_path).recover(messages.append)
    assert newest.meta["step"] == (1 if fails in ("previous", "newest") else 3)
    assert len(messages) == 1 and not list(tmp_path.glob(".*.partial"))
    RunDir(tmp_path).save(TENSORS, META | {"step": 4})
    assert checkpoint.read(RunDir(tmp_path).previous_checkpoint).meta["step"] == newest.meta["step"]


def test_a_pipe_a_folder_and_a_link_in_a_checkpoint_s_place_are_named_or_left_alone(tmp_path):
    os.mkfifo(RunDir(tmp_path).checkpoint)
    with pytest.raises(CheckpointError, match=f"{NAME}: it is not a regular file"):
        checkpoint.read(RunDir(tmp_path).checkpoint)
    RunDir(tmp_path).checkpoint.unlink()
    RunDir(tmp_path).checkpoint.mkdir()
    with pytest.raises(CheckpointError, match=f"{NAME}: Is a directory"):
        checkpoint.read_meta(RunDir(tmp_path).checkpoint)
    RunDir(tmp_path).checkpoint.rmdir()
    (tmp_path / "mine").write_text("mine")
    RunDir(tmp_path).checkpoint.symlink_to(tmp_path / "mine")
    RunDir(tmp_path).save(TENSORS, META)
    assert (tmp_path / "mine").read_text() == "mine"
    assert not RunDir(tmp_path).checkpoint.is_symlink()


def test_every_flipped_bit_is_seen(tmp_path):
    RunDir(tmp_path).save(TENSORS, META | {"note": "blake2b"})
    path = RunDir(tmp_path).checkpoint
    data = path.read_bytes()
    assert checkpoint.read(path).meta["step"] == 1
    for i in range(len(data)):
        for bit in (1, 64):
            path.write_bytes(data[:i] + bytes([data[i] ^ bit]) + data[i + 1:])
            with pytest.raises(CheckpointError, match=NAME):
                checkpoint.read(path)


def test_a_file_of_another_project_is_refused(tmp_path):
    import safetensors.numpy
    RunDir(tmp_path).checkpoint.write_bytes(safetensors.numpy.save(TENSORS))
    with pytest.raises(CheckpointError, match="not a checkpoint of seed"):
        checkpoint.read(RunDir(tmp_path).checkpoint)
    RunDir(tmp_path).checkpoint.write_bytes(
        safetensors.numpy.save(TENSORS, {"seed": '{"format": 99}'}))
    with pytest.raises(CheckpointError, match="not of format"):
        checkpoint.read(RunDir(tmp_path).checkpoint)


@pytest.mark.parametrize("change, says", [
    (lambda t: t.pop("b"), "b is missing"),
    (lambda t: t.update(c=np.zeros(1, np.float32)), "c is not expected"),
    (lambda t: t.update(a=np.zeros(6, np.float32)), r"a is float32 \(6,\), expected .* \(5,\)"),
    (lambda t: t.update(a=np.zeros(5)), r"a is float64 \(5,\), expected float32 \(5,\)")])
def test_missing_extra_misshaped_and_mistyped_tensors_are_named(change, says):
    tensors = dict(TENSORS)
    change(tensors)
    with pytest.raises(CheckpointError, match=says):
        checkpoint.check_tensors(tensors, TENSORS, "here")
