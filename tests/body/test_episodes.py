"""Recorded episodes: written and read back, cut by a power loss, and refused by file and line."""
import json
import math
import os
from collections import Counter

import numpy as np
import pytest

from seed.body.closed_loop import act
from seed.body.codec import Channel, Codec
from seed.body.episodes import EpisodeFolder, EpisodeWriter, Recorder
from seed.body.stored import Segment, load, segments_of
from seed.errors import ConfigError
from tests.support.recorded import METADATA, recorded, step, steps_of, write
from tests.support.simple_bodies import Target

CODEC = Codec("target", (Channel(-1, 1),), ((0.0, 1.0),), "index")
ARM = Codec("arm", (Channel(-1, 1), Channel(0, 2)), ((-1.0, 0.0, 1.0), (-2.0, 2.0)), "numbers",
            (2,))


class SignPlayer:
    """Plays Target without a brain, a quarter of the rows wrongly."""
    rows, codec = 4, CODEC

    def begin(self, rows=None):
        pass

    def tick(self, tokens, weights):
        high = (weights[:, :2] * tokens[:, :2]).sum(1) > 1.5   # the middle of four knots
        high[0] = False
        start, = [head.start for head in CODEC.body.control.heads if not head.is_scalar]
        logits = np.zeros((4, CODEC.body.control.rows), np.float32)
        logits[:, start + 1] = 2.0 * high - 1
        return logits


def read(folder) -> list:
    return list(EpisodeFolder(folder).steps())


def test_what_is_played_is_read_back_with_its_codec(tmp_path):
    recorder = Recorder(EpisodeWriter(tmp_path / "data", CODEC, 50.0, "a test"), 4)
    played = act(SignPlayer(), Target, 0, 8, recorder=recorder)
    recorder.writer.close()
    folder = EpisodeFolder(tmp_path / "data")
    assert folder.body == "target" and folder.codec == CODEC
    steps = list(folder.steps())
    assert len(steps) == 8 * 11 and sum(step.is_last for step in steps) == 8
    assert sum(step.reward for step in steps) == sum(episode.total for episode in played)
    seen = np.array([step.observation for step in steps]).ravel()
    assert len(np.unique(seen)) == len(seen)   # the last of an episode is not the next one's first


@pytest.mark.parametrize("n_ticks, episodes", [(5, 1), (25, 2), (30, 3), (math.inf, 5)])
def test_long_episodes_are_fewer_but_whole_and_as_many_of_each_row(n_ticks, episodes):
    class Slow(Target):   # half of the episodes are longer
        def step(self, action):
            return *super().step(action)[:3], self._ticks >= (self._seen > 0) * 3 + 7, {}
    played = act(SignPlayer(), Target, 0, 20, n_ticks=n_ticks)
    assert Counter(episode.row for episode in played) == dict.fromkeys(range(4), episodes)
    counts = Counter(episode.row for episode in act(SignPlayer(), Slow, 0, 20, n_ticks=n_ticks))
    assert len(counts) == 4 and len(set(counts.values())) == 1


def test_an_array_of_numbers_becomes_the_nearest_choices(tmp_path):
    writer = EpisodeWriter(tmp_path / "data", ARM, None, "a test")
    writer.write(np.array([[0.1, 1], [0.2, 2]]), np.array([[2, 0]]), np.array([0.5]), True)
    writer.close()
    first, last = read(tmp_path / "data")
    assert first.choices == [2, 0] and first.reward == 0.5 and last.is_terminal
    write(tmp_path / "data", [step([0, 0], [0.4, 1.9], is_first=True),
                              step([0, 0], [0.6, -0.1], is_last=True)],
          "episodes-1.jsonl", body="arm", codec=ARM.to_dict())
    assert [s.choices for s in read(tmp_path / "data")[2:]] == [[1, 1], None]


def test_recorded_numbers_have_fine_choices_in_the_middle_or_those_of_a_brain(tmp_path):
    ranges = {"low": [-1, 0], "high": [1, 4]}
    folder = write(tmp_path / "data", [step([0], [0.05, 2.9], is_first=True),
                                       step([0], is_last=True)], body="arm", action=ranges)
    data = load(EpisodeFolder(folder), None, 0.9)
    first, second = data.codec.actions
    assert len(first) == 21 and first[0] == -1 and first[20] == 1 and second[10] == 2
    assert np.diff(first).min() == pytest.approx(0.01) and np.diff(first).max() < 0.2
    assert [first[data.choices[0, 0]], second[data.choices[0, 1]]] == pytest.approx([0.04, 2.98])
    brain = Codec("arm", (Channel(-1, 1),), ((-1.0, 0.1, 1.0), (0.0, 3.0, 4.0)), "numbers", (2,))
    assert load(EpisodeFolder(folder), brain, 0.9).choices.tolist() == [[1, 1]]


def test_each_recording_has_its_own_file_and_a_directory_has_one_body(tmp_path):
    for _ in range(2):
        EpisodeWriter(tmp_path / "data", CODEC, None, "a test").close()
    assert len(list((tmp_path / "data").glob("episodes-*.jsonl"))) == 2
    with pytest.raises(ConfigError, match="episodes of another body or with other ranges"):
        EpisodeWriter(tmp_path / "data", ARM, None, "a test")


def test_a_directory_has_one_rate(tmp_path):
    for rate_hz in (30, 1 / 0.033, None):
        EpisodeWriter(tmp_path / "data", CODEC, rate_hz, "a test").close()
    assert EpisodeFolder(tmp_path / "data").rate_hz == 30.0
    with pytest.raises(ConfigError, match="data has episodes at 30 Hz, target has 31 Hz: use anot"):
        EpisodeWriter(tmp_path / "data", CODEC, 31.0, "a test")


@pytest.mark.parametrize("cut", range(1, 60))
def test_a_file_cut_anywhere_keeps_its_whole_steps(tmp_path, cut):
    rows = [row for seed in (0, 1) for row in steps_of(np.random.default_rng(seed), 3)]
    folder = write(tmp_path / "data", rows)
    data = (folder / "episodes-0.jsonl").read_bytes()
    size = len(data) * cut // 60
    (folder / "episodes-0.jsonl").write_bytes(data[:size])
    n_whole = data[:size].count(b"\n") + (data[size:size + 1] == b"\n")
    steps = read(folder)
    is_alone = n_whole in (1, 5)   # an episode's first step, with nothing behind it
    assert len(steps) == n_whole - is_alone
    assert not steps or steps[-1].is_last and steps[-1].choices is None


BROKEN = [
    ({"observation": [0.5, 1]}, "observation has 2 numbers; the body has 1"),
    ({"observation": ["a"]}, "use numbers"), ({"observation": [True]}, "use numbers"),
    ({"observation": None}, "use numbers"), ({"action": 2}, "action 2 is unknown: the body has 0"),
    ({"action": 0.5}, "action 0.5 is unknown"), ({"action": None}, "action is None"),
    ({"reward": 1e7}, "reward is 1e.07: keep it within"), ({"reward": "much"}, "use numbers"),
    ({"is_last": 1}, "is_last is 1: use true or false"),
    ({"is_first": True}, "the episode before it has no is_last"),
    ({"is_terminal": True}, "is_terminal is true, but is_last is false")]


@pytest.mark.parametrize("change, message", BROKEN)
def test_a_wrong_step_is_refused_with_its_file_and_line(tmp_path, change, message):
    rows = steps_of(np.random.default_rng(0), 5)
    rows[2] |= change
    folder = write(tmp_path / "data", rows)
    with pytest.raises(ConfigError, match=f"data/episodes-0.jsonl line 3: .*{message}") as caught:
        read(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("line, message", [
    ('{"observation": [NaN]}', "NaN is not a finite number"), ("[1]", "not a JSON object"),
    ("", "it is not JSON"), ("{}", "it has no is_first"), ("\x01", "it is not JSON"),
    ("[" * 100_000, "nested too deeply"), ("9" * 2 ** 21, "more than 1,048,576 bytes")])
def test_a_line_that_is_no_step_is_refused(tmp_path, line, message):
    folder = write(tmp_path / "data", steps_of(np.random.default_rng(0), 2))
    path = folder / "episodes-0.jsonl"
    path.write_text(line + "\n" + path.read_text())
    with pytest.raises(ConfigError, match=f"line 1: .*{message}"):
        read(folder)


@pytest.mark.parametrize("metadata, message", [
    ({"format": 2}, "format is not 1"), ({"rate_hz": 0}, "rate_hz is 0: give ticks per second"),
    ({"rate_hz": "10"}, "rate_hz is '10': give"), ({"rate_hz": [10]}, "rate_hz is .10.: give"),
    ({"body": ""}, "body is not a name"),
    ({"body": "a\nb"}, "body is not a name"),
    ({"action": {"n": 1}}, "give 1 to 64 parts of 2 to 64"),
    ({"action": {"n": 100}}, "give 1 to 64 parts of 2 to 64"), ({"action": {}}, "it has no 'low'"),
    ({"action": {"nvec": 3}}, "action is .* give lists low and high, n, or a list nvec"),
    ({"action": {"low": [0], "high": [None]}}, "its actions have no bounds"),
    ({"observation": {"low": [1], "high": [0]}}, "low below high"),
    ({"observation": {"low": [0] * 600, "high": [1] * 600}}, "more than 512 numbers"),
    ({"observation": []}, "observation is .*: give lists"),
    ({"observation": {"low": 0, "high": 1}}, "observation is .*: give lists"),
    ({"codec": {}}, "damaged"),
    ({"codec": ARM.to_dict()}, "its codec is of arm, not of target")])
def test_wrong_metadata_is_refused(tmp_path, metadata, message):
    folder = write(tmp_path / "data", [], **metadata)
    with pytest.raises(ConfigError, match=f"metadata.json: .*{message}|has {message}"):
        EpisodeFolder(folder)


def test_links_and_other_kinds_of_files_are_refused(tmp_path):
    folder = recorded(tmp_path / "data")
    os.rename(folder / "episodes-0.jsonl", tmp_path / "elsewhere")
    os.symlink(tmp_path / "elsewhere", folder / "episodes-0.jsonl")
    with pytest.raises(ConfigError, match="episodes-0.jsonl is a link"):
        read(folder)
    os.unlink(folder / "episodes-0.jsonl")
    with pytest.raises(ConfigError, match="has 0 files"):
        EpisodeFolder(folder)
    os.mkfifo(folder / "episodes-0.jsonl")
    with pytest.raises(ConfigError, match="it is not a regular file"):
        read(folder)
    with pytest.raises(ConfigError, match="Not a directory"):
        EpisodeFolder(tmp_path / "elsewhere")


def test_ranges_that_are_not_declared_come_from_the_data(tmp_path):
    folder = write(tmp_path / "data", [step([x, 0.0, 7.0], 0, is_first=x == 2) for x in (2, 5, 4)],
                   observation={"low": [None, -1, None], "high": [None, 1, None]})
    codec = EpisodeFolder(folder).measure()
    assert codec.channels == (Channel(1.25, 5.75), Channel(-1.0, 1.0), Channel(5.25, 8.75))


@pytest.mark.parametrize("numbers, message", [
    ([], "has no episode with an action: record some"), ([1e39, -1e308], "number 0 .* beyond 1e")])
def test_ranges_cannot_come_from_nothing_or_from_a_broken_sensor(tmp_path, numbers, message):
    rows = [step([x], 0, is_first=i == 0) for i, x in enumerate(numbers)]
    folder = write(tmp_path / "data", rows, observation={"low": [None], "high": [None]})
    with pytest.raises(ConfigError, match=message):
        EpisodeFolder(folder).measure()


def test_the_return_after_a_cut_continues_and_a_terminal_one_does_not(tmp_path):
    rng = np.random.default_rng(0)
    folder = write(tmp_path / "data", [*steps_of(rng, 3, True), *steps_of(rng, 2)])
    data = load(EpisodeFolder(folder), None, 0.5)
    assert np.allclose(data.returns, [1.75, 1.5, 1, 2, 2])
    assert np.allclose(data.seen, [1, 1, 1, 0.75, 0.5])
    assert data.begins.tolist() == [1, 0, 0, 1, 0] and data.ends.tolist() == [0, 0, 1, 0, 1]
    assert data.previous(np.arange(5)).ravel().tolist()[3] == -1
    assert [len(part) for part in data.split()] == [3, 2]
    with pytest.raises(ConfigError, match="has other observations or actions than arm"):
        load(EpisodeFolder(folder), ARM, 0.5)


def test_another_byte_is_another_digest(tmp_path):
    folder = recorded(tmp_path / "data", 2)
    first = load(EpisodeFolder(folder), None, 0.9).digest
    (folder / "metadata.json").write_text(json.dumps({**METADATA, "recorded_by": "me"}))
    second = load(EpisodeFolder(folder), None, 0.9).digest
    (folder / "episodes-0.jsonl").rename(folder / "episodes-1.jsonl")
    assert len({first, second, load(EpisodeFolder(folder), None, 0.9).digest, ""}) == 4


def begins(*lengths: int) -> np.ndarray:
    return np.concatenate([np.arange(length) == 0 for length in lengths])


def test_segments_join_short_episodes_and_divide_long_ones():
    assert segments_of(begins(8, 8, 30, 3), 4) == [Segment(0, 46, False), Segment(46, 49, False)]
    assert segments_of(begins(5, 150, 7), 4) == [
        Segment(0, 5, False), Segment(5, 69, False), Segment(65, 133, True),
        Segment(129, 155, True), Segment(155, 162, False)]
