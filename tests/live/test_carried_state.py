"""A state goes from one file to another of the same structure, and over a loss of power."""
import json
from pathlib import Path

import numpy as np
import pytest

from seed.live import carried_state
from seed.runtime import Brain, BrainError


def lived(path):
    brain = Brain(path)
    brain.begin("cartpole")
    for tick in range(5):
        brain.act([0.01 * tick, 0.1, 0.02, -0.1])
    return brain


def logits_after(brain):
    brain.act([0.0, 0.0, 0.05, 0.0])
    return brain.control_logits.copy()


def test_files_have_the_same_structure_only_if_all_of_the_state_means_the_same(brains):
    keys = {name: carried_state.structure(Brain(path).description)
            for name, path in vars(brains).items() if name != "broken"}
    assert keys["first"] == keys["second"] != keys["grown"]
    description = json.loads(json.dumps(Brain(brains.first).description))
    description["bodies"]["cartpole"]["codec"]["channels"][0]["high"] *= 2
    assert carried_state.structure(description) != keys["first"]


def test_another_file_continues_with_a_state_of_its_structure(brains, tmp_path):
    first, second = lived(brains.first), Brain(brains.second)
    first.save_state(tmp_path / "state")
    name = second.description["blake2b"]
    with pytest.raises(BrainError, match="another brain"):
        second.load_state(tmp_path / "state")
    carried_state.load(second, tmp_path / "state")
    assert second.description["blake2b"] == name
    assert not np.array_equal(logits_after(second), logits_after(lived(brains.second)))
    second.save_state(tmp_path / "again")
    Brain(brains.second).load_state(tmp_path / "again")


def test_the_same_file_continues_with_the_same_bits_after_a_loss_of_power(brains, tmp_path):
    brain = lived(brains.first)
    brain.save_state(tmp_path / "scratch")
    carried_state.keep((tmp_path / "scratch").read_bytes(),
                       carried_state.structure(brain.description), tmp_path / "kept")
    again = Brain(brains.first)
    assert carried_state.restore(again, tmp_path / "kept", tmp_path / "scratch") == ""
    assert np.array_equal(logits_after(again), logits_after(brain))


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "foreign", "grown"])
def test_a_state_that_cannot_be_used_is_told_in_one_line_and_changes_nothing(
        brains, tmp_path, damage):
    path, brain = tmp_path / "kept", lived(brains.first)
    brain.save_state(tmp_path / "scratch")
    carried_state.keep((tmp_path / "scratch").read_bytes(),
                       carried_state.structure(brain.description), path)
    data = path.read_bytes()
    path.write_bytes({"cut": data[:-100], "flipped": data[:-9] + bytes([data[-9] ^ 4]) + data[-8:],
                      "empty": b"", "foreign": b"a diary", "grown": data}[damage])
    again = Brain(brains.grown if damage == "grown" else brains.first)
    again.begin("cartpole")
    text = carried_state.restore(again, path, tmp_path / "scratch")
    assert "begins anew" in text and "\n" not in text and str(path) in text
    fresh = Brain(brains.grown if damage == "grown" else brains.first)
    fresh.begin("cartpole")
    assert np.array_equal(logits_after(again), logits_after(fresh))


def test_no_state_is_no_reason_for_a_line(brains, tmp_path):
    assert carried_state.restore(Brain(brains.first), tmp_path / "none", Path("unused")) == ""


def test_saving_stays_within_its_bytes_a_day():
    assert carried_state.interval_s(100) == carried_state.MIN_INTERVAL_S
    n_bytes = 10_000_000
    assert n_bytes * carried_state.DAY_S / carried_state.interval_s(n_bytes) == pytest.approx(
        carried_state.BYTES_PER_DAY)


def test_a_state_that_is_nested_too_deeply_is_damaged(brains, tmp_path):
    brain = Brain(brains.first)
    key = carried_state.structure(brain.description).encode()
    (tmp_path / "state").write_bytes(carried_state.MAGIC + key + b"\nseed state 1\n" + bytes(16)
                                     + b"[" * 100_000 + b"\n")
    note = carried_state.restore(brain, tmp_path / "state", tmp_path / "scratch")
    assert "is damaged" in note and note.endswith("the brain begins anew")
