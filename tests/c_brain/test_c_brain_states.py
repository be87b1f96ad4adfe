"""Saved states of the C brain are those of seed.runtime; another file continues with one."""
import ctypes
import errno
import json
import os
import re

import numpy as np
import pytest

from seed.evaluation import TrainedBrain
from seed.export import Options
from seed.live import carried_state
from seed.runtime import Brain, state_file
from tests.support.acting_brains import KINDS, file_of
from tests.support.c_brain import CBrain, error_of

ROVER = 13   # numbers of an observation


def with_other_weights(trained: TrainedBrain) -> TrainedBrain:
    params = {name: array * np.float32(1.1) for name, array in trained.params.items()}
    return TrainedBrain(trained.profile, 0, params, bodies=trained.bodies)


def rows(count: int, channels: int = ROVER, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (count, channels))


def assert_same(c: CBrain, python: Brain) -> None:
    """The same actions, logits and bytes from here on."""
    for i, seen in enumerate(rows(20, c.body.channels, seed=5)):
        assert c.act(seen) == np.ravel(python.act(seen)).tolist()
        assert np.array_equal(c.control_logits, python.control_logits)
        if i % 7 == 3:
            assert np.array_equal(c.step(i), python.step(i))


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_state_is_one_of_python_and_the_other_way_round(library, trained, tmp_path, kind):
    python = file_of(trained, tmp_path, KINDS[kind])
    c, path = CBrain(library, python.name), tmp_path / "state"
    for brain in (c, python):
        brain.begin("rover")
        brain.act([np.nan, *[0.5] * 12])
        brain.step(66)
    c.save_state(path)
    again = Brain(python.name)
    again.load_state(path)
    assert again.bodies["rover"].absent == 1 and again._hidden is not None
    np.testing.assert_equal(again.act(rows(1)[0], surprise=True),
                            python.act(rows(1)[0], surprise=True))
    python.save_state(path)
    c.begin("cartpole")
    c.load_state(path)
    assert c.body.absent == 1
    assert_same(c, python)
    assert sorted(os.listdir(tmp_path)) == ["brain.tflite", "state"]


def test_an_episode_of_months_is_loaded_too(library, acting, tmp_path):
    python, c = Brain(acting), CBrain(library, acting)
    python.begin("rover")
    python.act(rows(1)[0])
    python.bodies["rover"].clipped = 2 ** 33
    python.save_state(tmp_path / "state")
    c.load_state(tmp_path / "state")
    assert c.body.clipped == 2 ** 33


def test_a_state_before_the_first_tick_and_of_text_are_pythons(library, trained, tmp_path):
    params = {key: array for key, array in trained.params.items() if key[:7] != "bodies."}
    text = TrainedBrain(trained.profile, 0, params)
    python, path = file_of(text, tmp_path, Options(explicit_state=True)), tmp_path / "state"
    c = CBrain(library, python.name)
    for byte in b"12+3":
        python.step(byte)
        c.step(byte)
    c.save_state(path)
    again = Brain(python.name)
    again.load_state(path)
    python.save_state(path)
    c.load_state(path)
    expected = python.step(65)
    assert np.array_equal(again.step(65), expected) and np.array_equal(c.step(65), expected)
    python = file_of(trained, tmp_path)
    c = CBrain(library, python.name)
    c.begin("rover")
    c.save_state(path)
    python.load_state(path)
    assert_same(c, python)


def refused(c: CBrain, path, message: str) -> None:
    """Nothing of the brain changes."""
    c.save_state(path.parent / "before")
    assert re.search(message, error_of(c.load_state, path))
    c.save_state(path.parent / "now")
    assert (path.parent / "before").read_bytes() == (path.parent / "now").read_bytes()


def test_a_damaged_state_is_refused(saved, tmp_path):
    c, path = saved
    c.act([0, 0.1, 0, 0])
    whole = path.read_bytes()
    for at in [*range(0, 60), *range(60, len(whole), 997), len(whole) - 1]:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 16]) + whole[at + 1:])
        refused(c, path, "no state of this brain|damaged: its checksum is wrong")
    for data in (whole[:-1], whole + b"x", whole[:20], b"", whole * 9):
        path.write_bytes(data)
        refused(c, path, "no state of this brain|damaged: its checksum is wrong")
    os.mkfifo(tmp_path / "pipe")
    for name in ("none", ".", "pipe"):
        refused(c, tmp_path / name, "No such file|is not a file")


@pytest.mark.parametrize("change", [
    {"body": "walker"}, {"body": None}, {"choices": [2]}, {"choices": [0, 0]}, {"choices": [0.0]},
    {"choices": 5}, {"choices": [True]}, {"choices": None}, {"choices": [-1]},
    {"choices": []},
    {"control": [0.0]}, {"control": None}, {"control": ["x"]}, {"control": [1e999] * 66},
    {"hidden": [1.0]}, {"hidden": "x"}, {"absent": "x"}, {"clipped": None}, {"body": []}], ids=str)
def test_a_sealed_state_with_wrong_fields_is_refused(saved, change):
    c, path = saved
    line, _, data = state_file.read_state(path, 2 ** 30).partition(b"\n")
    path.unlink()
    state_file.write(path, {**json.loads(line), **change}, [np.frombuffer(data, np.float32)])
    c.act([0, 0.1, 0, 0])
    refused(c, path, "has wrong fields: begin anew")


def test_the_state_of_another_brain_is_refused(library, trained, saved, tmp_path):
    other = file_of(trained, tmp_path, KINDS["int8"]).name
    refused(CBrain(library, other), saved[1], "is the state of another brain")


def test_only_a_state_is_replaced_and_a_failure_leaves_the_old_one(saved, tmp_path):
    c, path = saved
    whole = path.read_bytes()
    (tmp_path / "notes").write_text("mine")
    assert "is something else than a state" in error_of(c.save_state, tmp_path / "notes")
    assert (tmp_path / "notes").read_text() == "mine"
    assert "No such file" in error_of(c.save_state, tmp_path / "none/state")
    (tmp_path / "state.partial").mkdir()   # so that it cannot be written
    c.act([0, 0.1, 0, 0])
    assert "the state is not saved: name a file" in error_of(c.save_state, path)
    assert path.read_bytes() == whole
    (tmp_path / "state.partial").rmdir()
    (tmp_path / "state.partial").write_bytes(b"of a power cut")
    fsync_error = ctypes.c_int.in_dll(c.library, "fsync_error")
    fsync_error.value = errno.ENOSPC
    try:
        assert "state: No space left on device; the state is not saved" in error_of(
            c.save_state, path)
    finally:
        fsync_error.value = 0
    assert path.read_bytes() == whole and not (tmp_path / "state.partial").exists()
    path.write_bytes(whole[:99])   # damaged: it is of no use to anybody
    c.save_state(path)
    assert path.read_bytes() != whole and not (tmp_path / "state.partial").exists()


@pytest.mark.parametrize("kind", ["portable", "explicit"])
def test_a_brain_with_other_weights_continues_as_in_a_live_loop(library, trained, tmp_path, kind):
    for name, brain in (("old", trained), ("new", with_other_weights(trained))):
        (tmp_path / name).mkdir()
        file_of(brain, tmp_path / name, KINDS[kind])
    old, new = (tmp_path / name / "brain.tflite" for name in ("old", "new"))
    c, following, python = CBrain(library, old), CBrain(library, new), Brain(new)
    c.begin("rover")
    for seen in rows(9):
        c.act(seen)
    c.save_state(tmp_path / "state")
    carried_state.load(python, tmp_path / "state")
    c.swap(following)
    assert_same(c, python)
