"""Ratios are those of paired turns."""
from types import SimpleNamespace

from seed.bench import turns as module
from seed.bench.turns import Turns, paired, take_turns


def test_ratios_are_of_the_turns_and_not_of_the_sums():
    ratio = paired([2.0, 9.0, 4.0], [1.0, 3.0, 4.0])
    assert ratio == (2.0, 1.0, 3.0) and str(ratio) == "2.00 (1.00 - 3.00)"


def test_a_turn_has_the_seconds_of_each_step_after_those_that_warm_up(monkeypatch):
    calls = []
    turns = Turns(lambda: calls.append(1), steps=7)
    turns.turn()
    assert len(calls) == 10 and len(turns.turns[0]) == 7
    monkeypatch.setattr("seed.bench.turns.timed", lambda step_fn, n: [3.0] * n)
    answers = Turns(lambda: None, steps=2, divisor=2)
    answers.turn()
    assert answers.turns == [[1.5, 1.5]]
    turns.turns = [[1.0, 2.0, 9.0], [4.0, 4.0, 4.0], [3.0, 3.0, 3.0]]
    assert turns.medians == [2.0, 4.0, 3.0] and turns.seconds == 3.0


def test_rounds_end_with_the_time_but_not_before_the_third(monkeypatch):
    taken = []
    contenders = [SimpleNamespace(turn=lambda name=name: taken.append(name)) for name in "ab"]
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=iter([4.0, 5.0, 6.0]).__next__))
    take_turns(iter(contenders), 20, ends_s=5.5)
    assert "".join(taken) == "ab" * 5   # after the third it looks at the clock before each
    take_turns(contenders, 2)
    assert len(taken) == 14
