"""The newest episodes are copied whole, and the oldest files go."""
import json
import math
import shutil

import pytest

from seed.body.episodes import EpisodeFolder
from seed.live import lived
from seed.live.lived import LOOK_EVERY_S, Memory, copy_newest, files_of
from seed.runtime.recording import step_line
from tests.support.fake_clock import FakeClock

METADATA = {"format": 1, "body": "point", "observation": {"low": [-1], "high": [1]},
            "action": {"n": 2}}


def write(folder, *files: list[int], torn: bool = False) -> None:
    """Files of episodes of so many ticks each; observations count the ticks of all."""
    folder.mkdir()
    (folder / "metadata.json").write_text(json.dumps(METADATA))
    n = 0
    for number, episodes in enumerate(files):
        text = ""
        for ticks in episodes:
            for t in range(ticks):
                text += step_line([n / 1000], t == 0, 1, 0.5)
                n += 1
            text += step_line([n / 1000], False)
        (folder / f"episodes-{number:05}.jsonl").write_text(text[:-9] if torn else text)


def seen(folder) -> list[float]:
    return [step.observation[0] for step in EpisodeFolder(folder).steps()]


@pytest.mark.parametrize("max_ticks, first", [(3, 11), (5, 11), (8, 11), (9, 7), (1000, 0)])
def test_the_newest_whole_episodes_are_copied(tmp_path, max_ticks, first):
    write(tmp_path / "all", [3, 4], [4, 3])
    n = copy_newest(tmp_path / "all", tmp_path / "new", max_ticks)
    numbers = seen(tmp_path / "new")
    assert numbers[0] == first / 1000 and numbers[-1] == 0.014 and n == len(numbers)


def test_a_file_that_is_trimmed_meanwhile_is_left_out(tmp_path, monkeypatch):
    write(tmp_path / "all", [3, 4], [4, 3])
    files = files_of(tmp_path / "all")
    monkeypatch.setattr(lived, "files_of", lambda folder: files)
    files[0].unlink()
    assert copy_newest(tmp_path / "all", tmp_path / "new", 1000) == len(seen(tmp_path / "new")) == 9


def test_a_line_that_is_being_written_is_torn_there_too(tmp_path):
    write(tmp_path / "all", [3, 4], torn=True)
    copy_newest(tmp_path / "all", tmp_path / "new", 5)
    assert seen(tmp_path / "new") == [0.003, 0.004, 0.005, 0.006]


@pytest.fixture
def memory(tmp_path) -> Memory:
    """Five files of one size, of which there is room for four; surprise by the file's number."""
    write(tmp_path / "episodes", [9])
    clock, memory = FakeClock(), Memory(tmp_path / "episodes", 4 * size_of(tmp_path), FakeClock())
    memory._clock = clock
    for number, surprise in enumerate((3.0, 1.0, 2.0, 5.0, 4.0)):
        if number:
            shutil.copy(files_of(memory.folder)[0], memory.folder / f"episodes-{number:05}.jsonl")
        for nats in (surprise - 0.5, math.nan, surprise + 0.5):
            memory.look(nats)
            clock.now += 1 + LOOK_EVERY_S / 2
    return memory


def size_of(folder) -> int:
    return files_of(folder / "episodes")[0].stat().st_size


def numbers(memory: Memory) -> list[int]:
    return [int(path.stem[-5:]) for path in files_of(memory.folder)]


def test_the_newest_and_the_most_surprising_files_stay(memory):
    size = size_of(memory.folder.parent)
    for files, left in ((5, [0, 1, 2, 3, 4]), (4, [0, 2, 3, 4]), (3, [0, 3, 4]), (2, [3, 4]),
                        (0.5, [4])):
        memory._max_bytes = files * size
        n = memory.trim()
        assert numbers(memory) == left and n == (files != 5)
    again = Memory(memory.folder, size)
    assert again._means == {}   # of files that are there; the newest has no end yet


def test_what_is_far_too_much_goes_in_several_turns(memory, monkeypatch):
    """As after the bound was lowered: the caller has other things to do than to wait for a disk."""
    monkeypatch.setattr(lived, "MAX_TRIMMED", 2)
    memory._max_bytes = 0.5 * size_of(memory.folder.parent)
    assert [memory.trim() for _ in range(3)] == [2, 2, 0] and numbers(memory) == [4]


def test_what_it_knows_of_files_outlives_its_process_and_a_damaged_note_of_it(memory):
    memory.trim()
    again = Memory(memory.folder, 1e9)
    assert again._means == {f"episodes-0000{n}.jsonl": mean for n, mean in (
        (0, 3.0), (2, 2.0), (3, 5.0))}
    (memory.folder.parent / "surprise.json").write_text("{")
    torn = Memory(memory.folder, 2 * size_of(memory.folder.parent))
    assert torn.trim() == 2 and numbers(torn) == [3, 4]   # as without any: by age alone


def test_only_what_is_of_the_body_as_it_is_now_is_remembered_again(memory):
    size = size_of(memory.folder.parent)
    assert [path.name[-7] for path in memory.surprising(2 * size)] == ["0", "3"]
    memory._means["episodes-00004.jsonl"] = 0.1
    memory._newest = "episodes-00001.jsonl"
    memory.forget_before()
    assert [path.name[-7] for path in memory.surprising(9 * size)] == ["4", "2", "3"]
    assert [path.name[-7] for path in memory.surprising(size)] == ["3"]


def test_numbers_with_more_digits_are_newer(tmp_path):
    write(tmp_path / "all", [9])
    for number in (99999, 100000):
        shutil.copy(tmp_path / "all/episodes-00000.jsonl",
                    tmp_path / f"all/episodes-{number}.jsonl")
    assert [path.name for path in files_of(tmp_path / "all")][-1] == "episodes-100000.jsonl"
