"""The newest episodes are copied whole, and the oldest files go."""
import json
import math
import shutil

import pytest

from seed.body.episodes import EpisodeFolder
from seed.live import lived
from seed.live.lived import LOOK_EVERY_S, Memory, Position, copy_newest, files_of
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


@pytest.mark.parametrize("max_ticks, first", [(1, 13), (3, 11), (5, 9), (7, 7), (8, 6), (14, 0),
                                              (1000, 0)])
def test_the_newest_ticks_are_copied_though_an_episode_is_cut(tmp_path, max_ticks, first):
    write(tmp_path / "all", [3, 4], [4, 3])
    assert copy_newest(tmp_path / "all", tmp_path / "new", max_ticks) == (14 - first, 0)
    numbers = seen(tmp_path / "new")
    assert numbers[0] == first / 1000 and numbers[-1] == 0.014
    assert sorted(set(numbers)) == [n / 1000 for n in range(first, 15)]


def test_a_file_that_is_trimmed_meanwhile_is_left_out(tmp_path, monkeypatch):
    write(tmp_path / "all", [3, 4], [4, 3])
    files = files_of(tmp_path / "all")
    monkeypatch.setattr(lived, "files_of", lambda folder: files)
    files[0].unlink()
    assert copy_newest(tmp_path / "all", tmp_path / "new", 1000) == (7, 0)
    assert len(seen(tmp_path / "new")) == 9   # with the ends of two episodes


def test_a_line_that_is_being_written_is_torn_there_too(tmp_path):
    write(tmp_path / "all", [3, 4], torn=True)
    copy_newest(tmp_path / "all", tmp_path / "new", 4)
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
    memory.forget_before(Position("episodes-00001.jsonl"))
    assert [path.name[-7] for path in memory.surprising(9 * size)] == ["4", "2", "3"]
    assert [path.name[-7] for path in memory.surprising(size)] == ["3"]


def test_numbers_with_more_digits_are_newer(tmp_path):
    write(tmp_path / "all", [9])
    for number in (99999, 100000):
        shutil.copy(tmp_path / "all/episodes-00000.jsonl",
                    tmp_path / f"all/episodes-{number}.jsonl")
    assert [path.name for path in files_of(tmp_path / "all")][-1] == "episodes-100000.jsonl"


@pytest.fixture
def living(tmp_path):
    """A memory of two files, its clock, and what adds episodes to a file."""
    write(tmp_path / "episodes", [3, 4], [4, 3])
    clock = FakeClock()

    def add(number: int, ticks: int) -> None:
        with open(tmp_path / f"episodes/episodes-{number:05}.jsonl", "a") as file:
            for t in range(ticks):
                file.write(step_line([0.5], t == 0, 1, 0.5))
            file.write(step_line([0.5], False))
        clock.now += LOOK_EVERY_S
    return Memory(tmp_path / "episodes", 1e9, clock), clock, add


def copied(memory: Memory, max_ticks: int = 1000) -> tuple[int, int]:
    """Ticks since the body's change, and in how many of them the brain acted that acts now."""
    return copy_newest(memory.folder, memory.folder.parent / "new", max_ticks, memory.changed_at,
                       memory.own_since)


def test_what_was_recorded_before_the_body_changed_is_not_learnt_also_by_a_later_process(living):
    """It changes within an episode that ends long after that, or never."""
    memory, clock, _ = living
    path = files_of(memory.folder)[0]
    lines = path.read_bytes().splitlines(keepends=True)
    memory.forget_before(Position(path.name, len(b"".join(lines[:5])) + 10))   # within its line
    memory.trim()
    again = Memory(memory.folder, 1e9, clock)
    for newer in (memory, again):
        assert copied(newer) == (4 + 3 + 2, 0)   # the tick that was being written is left out
        assert seen(memory.folder.parent / "new")[:3] == [0.005, 0.006, 0.007]


def test_ticks_are_of_the_brain_that_acted_when_they_were_recorded(living):
    """Nothing counts that was not recorded, as on hold or beyond the budget."""
    memory, clock, add = living
    memory.look(1.0)
    assert copied(memory) == (14, 0)   # of an earlier process
    add(1, 5)
    memory.look(1.0)
    assert copied(memory) == (19, 5) and copied(memory, 3) == (3, 3)
    memory.begin_own()   # another brain acts: what is written now is still of the one before
    add(1, 6)
    add(2, 2)
    assert copied(memory) == (27, 0)
    memory.look(1.0)
    add(2, 4)
    assert copied(memory) == (31, 6)
    memory.look(1.0)
    memory.begin_own()   # the same acts in another way
    memory.look(1.0)
    clock.now += LOOK_EVERY_S
    memory.look(1.0)
    add(2, 7)
    assert copied(memory) == (38, 7)


def test_nothing_is_recorded_where_there_is_no_file(tmp_path):
    write(tmp_path / "episodes")
    for folder in (tmp_path / "episodes", tmp_path / "none"):
        memory = Memory(folder, 1e9)
        memory.look(1.0)
        assert memory.recorded == memory.own_since == Position()
