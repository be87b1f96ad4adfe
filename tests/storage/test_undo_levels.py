"""Brains of before adaptations: the newest first, three at most, whatever a power cut leaves."""
import numpy as np
import pytest

from seed.errors import CheckpointError, ConfigError
from seed.storage import RunDir, atomic_file, checkpoint, undo_levels
from tests.support.small_run import META
from seed.profile_file import load_profile

PROFILE = load_profile("toy", ["curriculum.tasks={copy=1.0}"]).to_dict()


def meta(adapted: int) -> dict:
    return {"profile": PROFILE, **META, **({"adapted": f"{adapted}"} if adapted else {})}


def tensors(number: int) -> dict:
    return {"norm_f": np.full(4, number, np.float32)}


@pytest.fixture
def run_dir(tmp_path) -> RunDir:
    """With brain 0."""
    RunDir(tmp_path).save(tensors(0), meta(0))
    return RunDir(tmp_path)


def publish(run_dir: RunDir, number: int) -> None:
    undo_levels.publish(run_dir, tensors(number), meta(number))


def number_of(path) -> int:
    return int(checkpoint.read(path).tensors["norm_f"][0])


def numbers(run_dir: RunDir) -> list[int]:
    """The brain, then those that undoing brings back."""
    return [number_of(path) for path in (run_dir.checkpoint, *run_dir.undo_levels)
            if path.exists()]


def test_each_undo_brings_back_the_one_before_bit_for_bit(run_dir):
    bits = [run_dir.checkpoint.read_bytes()]
    for number in (1, 2, 3):
        publish(run_dir, number)
        bits.append(run_dir.checkpoint.read_bytes())
    assert numbers(run_dir) == [3, 2, 1, 0]
    for expected in reversed(bits[:-1]):
        undo_levels.restore(run_dir)
        assert run_dir.checkpoint.read_bytes() == expected
    with pytest.raises(ConfigError, match="nothing to undo"):
        undo_levels.restore(run_dir)


def test_three_are_kept_the_newest(run_dir):
    for number in range(1, 6):
        publish(run_dir, number)
    assert numbers(run_dir) == [5, 4, 3, 2]


def test_an_adaptation_after_an_undo_follows_the_brain_that_was_brought_back(run_dir):
    for number in (1, 2, 3):
        publish(run_dir, number)
    undo_levels.restore(run_dir)
    undo_levels.restore(run_dir)
    assert numbers(run_dir) == [1, 0]
    for number in (7, 8, 9):
        publish(run_dir, number)
    assert numbers(run_dir) == [9, 8, 7, 1]


@pytest.mark.parametrize("n_levels", [0, 1, 2, 3])
@pytest.mark.parametrize("n_moves", range(5))
def test_a_publication_that_is_cut_off_at_any_rename_is_completed(run_dir, monkeypatch, n_levels,
                                                                  n_moves):
    for number in range(1, n_levels + 1):
        publish(run_dir, number)
    move, left = atomic_file.move, [n_moves]

    def move_or_die(*paths):
        if left[0] == 0:
            raise KeyboardInterrupt
        left[0] -= 1
        move(*paths)
    with monkeypatch.context() as patch:
        patch.setattr(atomic_file, "move", move_or_die)
        try:
            publish(run_dir, 9)
        except KeyboardInterrupt:
            pass
    undo_levels.settle(run_dir)
    assert numbers(run_dir) == [9, *reversed(range(n_levels + 1))][:4]
    assert not run_dir.staged_checkpoint.exists()


def test_one_that_was_trained_since_or_is_damaged_stays(run_dir):
    publish(run_dir, 1)
    publish(run_dir, 2)
    run_dir.checkpoint_before_adaptation.write_bytes(b"damaged")
    with pytest.raises(CheckpointError):
        undo_levels.restore(run_dir)
    assert number_of(run_dir.checkpoint) == 2
    publish(run_dir, 3)
    run_dir.save(tensors(4), meta(0))   # as training does
    with pytest.raises(ConfigError, match="was trained since"):
        undo_levels.restore(run_dir)
    assert number_of(run_dir.checkpoint) == 4
