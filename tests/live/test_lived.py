"""The newest episodes are copied whole, and the oldest files go."""
import json

import pytest

from seed.body.episodes import EpisodeFolder
from seed.live.lived import copy_newest, files_of, remove_oldest
from seed.runtime.recording import step_line

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


def test_a_line_that_is_being_written_is_torn_there_too(tmp_path):
    write(tmp_path / "all", [3, 4], torn=True)
    copy_newest(tmp_path / "all", tmp_path / "new", 5)
    assert seen(tmp_path / "new") == [0.003, 0.004, 0.005, 0.006]


def test_the_oldest_files_are_removed_but_never_the_newest(tmp_path):
    write(tmp_path / "all", [9], [9], [9])
    files = files_of(tmp_path / "all")
    size = files[-1].stat().st_size
    assert remove_oldest(tmp_path / "all", 3 * size) == 0
    for max_bytes, left in ((2 * size, files[1:]), (0, files[2:])):
        assert remove_oldest(tmp_path / "all", max_bytes) == 1
        assert files_of(tmp_path / "all") == left
