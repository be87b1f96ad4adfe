"""A robot that boots again continues where it was; every other file is refused."""
import json
import os
import subprocess

import numpy as np
import pytest

from seed.evaluation import TrainedBrain
from seed.export import Options
from seed.runtime import Brain, BrainError, state_file
from tests.support.acting_brains import KINDS, file_of, untrained
from tests.support.tflite import ROOT, old_python


@pytest.fixture(scope="module")
def trained() -> TrainedBrain:
    return untrained()


def observations(n: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (n, 13))


def after(brain: Brain) -> list:
    """All that it gives for some ticks and a byte."""
    rows = []
    for t, seen in enumerate(observations(8)):
        rows.append([*brain.act(seen, surprise=True), brain.value, brain.control_logits.copy(),
                     brain.step(65) if t == 3 else None])
    return rows


def test_the_state_of_a_brain_that_has_not_acted_is_its_beginning(trained, tmp_path):
    brain, path = file_of(trained, tmp_path), tmp_path / "state"
    brain.begin("rover")
    brain.save_state(path)
    expected = after(brain)
    brain.load_state(path)
    np.testing.assert_equal(after(brain), expected)
    brain.begin("cartpole")   # after an act in another body
    expected = [brain.control_logits.size, brain.act([0, 0, 0, 0])]
    brain.begin("rover")
    brain.act(observations(1)[0])
    brain.begin("cartpole")
    brain.save_state(path)
    brain.begin("rover")
    brain.load_state(path)
    assert [brain.control_logits.size, brain.act([0, 0, 0, 0])] == expected


@pytest.mark.parametrize("kind", KINDS)
def test_a_robot_that_boots_again_does_the_same_bit_for_bit(trained, tmp_path, kind):
    brain, path = file_of(trained, tmp_path, KINDS[kind]), tmp_path / "state"
    brain.begin("rover")
    for seen in observations(9)[1:]:
        brain.act([None, *seen[1:]])
    brain.step(66)
    brain.save_state(path)
    value, expected = brain.value, after(brain)
    again = Brain(tmp_path / "brain.tflite")
    again.act(np.zeros(4))   # of another body
    again.load_state(path)
    assert again.value == value and again.bodies["rover"].absent == 8
    np.testing.assert_equal(after(again), expected)
    brain.save_state(path)   # the newest one
    again.load_state(path)
    np.testing.assert_equal(after(again), after(brain))
    assert sorted(os.listdir(tmp_path)) == ["brain.tflite", "state"]


def test_the_old_runtime_does_the_same_after_a_boot(trained, tmp_path):
    """With the actions and, nearly, the surprise of this one."""
    brain = file_of(trained, tmp_path)
    lines = ["import json", "from seed.runtime import Brain",
             f"brain, rows = Brain({str(tmp_path / 'brain.tflite')!r}), []",
             "brain.begin('cartpole')",
             "for t in range(20):",
             "    if t == 10:",
             f"        brain.save_state({str(tmp_path / 'state')!r})",
             "        brain = Brain(brain.name)",
             f"        brain.load_state({str(tmp_path / 'state')!r})",
             "    rows.append(brain.act([t / 20, -t / 9, 0, None], surprise=True))",
             "print(json.dumps(rows))"]
    done = subprocess.run([old_python(), "-c", "\n".join(lines)], capture_output=True, text=True,
                          env={"PYTHONPATH": str(ROOT)}, timeout=60)
    brain.begin("cartpole")
    expected = [brain.act([t / 20, -t / 9, 0, None], surprise=True) for t in range(20)]
    np.testing.assert_allclose(json.loads(done.stdout), expected, rtol=1e-4, err_msg=done.stderr)


def test_a_brain_without_a_body_needs_explicit_states(trained, tmp_path):
    params = {key: array for key, array in trained.params.items() if key[:7] != "bodies."}
    text, path = TrainedBrain(trained.profile, 0, params), tmp_path / "state"
    with pytest.raises(BrainError, match="export it with --explicit-state"):
        file_of(text, tmp_path).save_state(path)
    brain = file_of(text, tmp_path, Options(explicit_state=True))
    brain.prefill(b"12+3")
    brain.save_state(path)
    expected = brain.step(65)
    again = Brain(tmp_path / "brain.tflite")
    again.load_state(path)
    assert np.array_equal(again.step(65), expected)


@pytest.fixture
def saved(trained, tmp_path):
    brain, path = file_of(trained, tmp_path), tmp_path / "state"
    brain.begin("cartpole")
    brain.act([0, 0, 0, 0])
    brain.save_state(path)
    return brain, path


def refused(brain: Brain, path, message: str) -> None:
    """Nothing of the brain changes."""
    brain.act([0, 0.1, 0, 0])
    brain.save_state(path.parent / "before")
    with pytest.raises(BrainError, match=message) as error:
        brain.load_state(path)
    assert "\n" not in str(error.value) and len(str(error.value)) < 300
    brain.save_state(path.parent / "now")
    assert (path.parent / "before").read_bytes() == (path.parent / "now").read_bytes()


def test_damage_anywhere_is_found(saved):
    brain, path = saved
    whole = path.read_bytes()
    for at in [*range(0, 60), *range(60, len(whole), 997), len(whole) - 1]:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 16]) + whole[at + 1:])
        refused(brain, path, "no state of a brain|damaged: its checksum is wrong")
    for data in (whole[:-1], whole + b"x", whole[:20], b""):
        path.write_bytes(data)
        refused(brain, path, "no state of a brain|damaged: its checksum is wrong")


def test_what_is_no_state_is_named(saved, tmp_path):
    brain, path = saved
    os.mkfifo(tmp_path / "pipe")
    for name, message in (("none", "No such file"), ("brain.tflite", "no state of a brain"),
                          (".", "is not a file|Is a directory"), ("pipe", "not a file")):
        refused(brain, tmp_path / name, message)
    for wrong in (None, 5, "a\0b", ""):
        with pytest.raises(BrainError, match="the path"):
            brain.load_state(wrong)
        with pytest.raises(BrainError, match="the path"):
            brain.save_state(wrong)


def test_the_state_of_another_brain_is_refused(trained, saved, tmp_path):
    _, path = saved
    (tmp_path / "int8").mkdir()
    refused(file_of(trained, tmp_path / "int8", KINDS["int8"]), path, "state of another brain")


@pytest.mark.parametrize("change", [
    {"body": "walker"}, {"body": None}, {"choices": [2]}, {"choices": [0, 0]}, {"choices": [0.0]},
    {"choices": 5}, {"choices": [True]}, {"choices": None},
    {"control": [0.0]}, {"control": None}, {"control": ["x"]},
    {"hidden": [1.0]}, {"hidden": "x"}, {"absent": "x"}, {"clipped": None}, {"body": []}], ids=str)
def test_a_sealed_file_with_wrong_fields_is_refused(saved, change):
    brain, path = saved
    line, _, data = state_file.read_state(path, 2 ** 30).partition(b"\n")
    path.unlink()
    state_file.write(path, {**json.loads(line), **change}, [np.frombuffer(data, np.float32)])
    refused(brain, path, "has wrong fields")


def test_only_a_state_is_ever_replaced_and_a_failure_leaves_the_old_one(saved, tmp_path,
                                                                        monkeypatch):
    brain, path = saved
    whole = path.read_bytes()
    with pytest.raises(BrainError, match="brain.tflite is something else"):
        brain.save_state(tmp_path / "brain.tflite")
    (tmp_path / "state.partial").write_bytes(b"of a power cut")
    brain.act([0, 0.1, 0, 0])

    def fail(file: int) -> None:
        raise OSError(28, "No space left on device")
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", fail)
        with pytest.raises(BrainError, match="state: No space left on device; the state is not"):
            brain.save_state(path)
    assert path.read_bytes() == whole and not (tmp_path / "state.partial").exists()
    with pytest.raises(BrainError, match="No such file"):
        brain.save_state(tmp_path / "none/state")
    path.write_bytes(whole[:99])   # damaged: it is of no use to anybody
    brain.save_state(path)
    assert path.read_bytes() != whole
    brain.load_state(path)
