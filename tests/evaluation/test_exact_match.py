"""Exact match, and agreement of two brains, on forward passes with known answers."""
import itertools

import numpy as np
import pytest

from seed.curriculum.dataset import Dataset
from seed.curriculum.task import Item
from seed.curriculum.vocab import END
from seed.evaluation import TrainedBrain
from seed.evaluation.exact_match import (MAX_PASS_BYTES, Score, agreement, by_task, evaluate,
                                         graph_size, table)
from seed.export.reference import Reference
from seed.profile_file import load_profile
from seed.wavecore.model import init_params
from tests.support import brains
from tests.support.perfect_forward import PerfectForward, small_dataset


class OneForEveryParity(PerfectForward):
    def next_byte(self, text: bytes) -> int:
        return ord("1") if text.endswith(b"#") else super().next_byte(text)


def test_two_brains_agree_where_they_choose_the_same_right_or_wrong():
    dataset = small_dataset()
    items = [item for item in dataset.holdout(4) if item.task in ("parity", "compare")]
    perfect, stubborn = PerfectForward(dataset), OneForEveryParity(dataset)
    even = sum(item.answer == b"0" for item in items) / len(items)
    assert 0.1 < even < 0.9
    assert agreement(items, perfect, stubborn) == pytest.approx(1 - even)
    assert agreement(items, stubborn, stubborn) == 1


def test_every_answer_byte_counts_and_the_end_does_too():
    dataset = small_dataset()
    items = [item for item in dataset.holdout(4) if item.task == "copy"]
    perfect = PerfectForward(dataset)
    assert all(s.accuracy == 1 for s in evaluate(items, dataset, perfect))

    def without_end(tokens: np.ndarray, cu_seqlens: np.ndarray) -> np.ndarray:
        logits = perfect(tokens, cu_seqlens)
        logits[..., 0xFE] = 0
        return logits
    assert all(s.accuracy == 0 for s in evaluate(items, dataset, without_end))


class ByteByByte:
    """The readable path: one byte after the other, in float64."""

    def __init__(self, brain: TrainedBrain):
        self.reference = Reference(brain.profile.model, brain.params)

    def __call__(self, tokens: np.ndarray, cu_seqlens: np.ndarray) -> np.ndarray:
        logits = []
        for start, end in itertools.pairwise(cu_seqlens):
            self.reference.reset()
            logits += [self.reference.step(byte) for byte in tokens[start:end].tolist()]
        return np.array(logits)

    def answer(self, prompt: bytes) -> bytes:
        """Of one byte; b"" if the second is not END."""
        self.reference.reset()
        byte = int([self.reference.step(byte) for byte in prompt][-1].argmax())
        return bytes([byte]) if self.reference.step(byte).argmax() == END else b""


def test_scores_are_those_of_a_brain_that_reads_byte_by_byte():
    """Some of the answers are made what it says, so that they are right."""
    profile = load_profile("fast")
    params = brains.weights(profile)
    params["embedding"][END] *= 4   # it ends often
    brain = TrainedBrain(profile, 0, params, 2)
    slow, dataset = ByteByByte(brain), Dataset(profile.curriculum, profile.identity, 0)
    items = [item._replace(answer=slow.answer(item.prompt) or item.answer)
             for item in dataset.holdout(2)]
    fast, expected = (evaluate(items, dataset, forward) for forward in (brain.forward, slow))
    assert [score.hits for score in fast] == [score.hits for score in expected]
    assert agreement(items, brain.forward, slow) == 1
    assert 0.1 < sum(score.correct for score in fast) / len(items) < 0.9


def test_a_pass_has_as_many_items_as_fit_and_a_longer_one_is_alone():
    texts = [b"a" * 700, b"b" * 440, b"c" * 10, b"d" * 3, b"e" * 5000, b"f"]
    items = [Item("copy", 1, text, b"x") for text in texts]
    passes = []

    def forward(tokens: np.ndarray, cu_seqlens: np.ndarray) -> np.ndarray:
        passes.append(np.diff(cu_seqlens).tolist())
        assert len(tokens) == cu_seqlens[-1] <= graph_size(len(tokens))
        return np.zeros((len(tokens), 256), np.float32)
    assert agreement(items, forward, forward) == 1
    assert passes[:4] == [[701, 441], [11, 4], [5001], [2]] and len(passes) == 8
    assert [graph_size(n) for n in (2, MAX_PASS_BYTES, MAX_PASS_BYTES + 1, 5001)] == [
        MAX_PASS_BYTES, MAX_PASS_BYTES, 2 * MAX_PASS_BYTES, 8 * MAX_PASS_BYTES]


def test_an_evaluation_that_is_stopped_has_no_scores():
    dataset = small_dataset()
    stops = iter((False, True))
    assert evaluate(dataset.holdout(4), dataset, PerfectForward(dataset),
                    lambda: next(stops)) is None


@pytest.mark.parametrize("name, n", [("fast", 4), pytest.param("fast", 64, marks=pytest.mark.long)])
def test_an_untrained_brain_is_at_chance_in_every_task_and_level(name, n):
    profile = load_profile(name)
    dataset = Dataset(profile.curriculum, profile.identity, 0)
    items = dataset.holdout(n) + dataset.extrapolation(n // 2)
    for params in (init_params(profile.model, 0), brains.weights(profile)):
        scores = TrainedBrain(profile, 0, params, 2).scores(items, dataset)
        assert len(scores) == len({(item.task, item.level) for item in items})
        for score in scores:
            assert score.interval[0] <= score.chance, score


SCORES = [Score("add", 1, 3, 4, 0.1), Score("add", 2, 1, 4, 0.1), Score("copy", 1, 4, 4, 0.0)]


def test_a_table_has_a_line_per_level_then_their_mean_and_the_uniform_draw():
    uniform = [Score("add", 0, 1, 8, 0.01), Score("copy", 0, 8, 8, 0.0)]
    rows = [line.split() for line in table([*SCORES, Score("add", 3, 0, 1, 0.4)], uniform)
            .splitlines()[1:]]
    assert [[*row[:3], *row[-2:]] for row in rows] == [
        ["add", "1", "75.0", "10.0", "4"], ["add", "2", "25.0", "10.0", "4"],
        ["add", "3", "0.0", "40.0", "1"], ["add", "mean", "33.3", "20.0", "9"],
        ["add", "uniform", "12.5", "1.0", "8"], ["copy", "1", "100.0", "0.0", "4"],
        ["copy", "uniform", "100.0", "0.0", "8"]]
    tokens = [Score("sort", level, 1, 2, 0.1, tokens=8, right_tokens=n) for level, n in (
        (1, 8), (2, 4))]
    assert [row.split()[-1] for row in table(tokens).splitlines()[1:]] == ["100.0", "50.0", "75.0"]
    assert by_task(SCORES) == {"add": (0.75, 0.25), "copy": (1.0,)}


def test_a_name_adds_no_line_to_a_table():
    text = table([Score("/home/a\nadd\x1b.jsonl", 1, 1, 2, 0.0)])
    assert len(text.splitlines()) == 2 and "a\\nadd\\x1b.jsonl" in text
