"""How unexpected an observation was: what training lowers, and what rises when a body changes."""
import math
import subprocess
import sys

import numpy as np
import pytest

from seed.body.cart_pole import CartPole
from seed.body.codec import Codec
from seed.body.round import next_observation_targets
from seed.evaluation import TrainedBrain
from seed.runtime import Brain, BrainError
from seed.wavecore.actor import Actor, Ticks
from seed.wavecore.ticks import TickTargets
from seed.wavecore.tinygrad_seam import Tensor
from tests.support.acting_brains import KINDS, NAMES, file_of, untrained


@pytest.fixture(scope="module")
def trained() -> TrainedBrain:
    return untrained()


def observations(codec: Codec, n: int) -> np.ndarray:
    low, high = (np.array([getattr(c, end) for c in codec.channels]) for end in ("low", "high"))
    return np.random.default_rng(0).uniform(low, high, (n, len(low))) * 1.1


class Expected:
    """The trainer's loss of the next observation, tick by tick."""

    def __init__(self, trained: TrainedBrain, codec: Codec):
        self.codec, self.actor = codec, Actor(trained.model, codec.body)
        self.state = trained.model.init_state(1)
        self.previous = np.full((1, len(codec.actions)), -1)

    def loss(self, seen: np.ndarray, choices: np.ndarray, following: np.ndarray) -> float:
        codec, ones = self.codec, np.ones((1, len(choices)), np.float32)
        ticks = Ticks(*map(Tensor, codec.encode(codec.levels(seen)[0][None], self.previous)))
        x, self.state = self.actor.hidden(ticks, self.state, 1, 1)
        x = self.actor.after_action(x, Ticks(Tensor(codec.action_rows(choices[None])),
                                             Tensor(ones)))
        targets = next_observation_targets(codec, codec.levels(following)[0][None, None],
                                           np.ones((1, 1)), 1.0)
        self.previous = choices[None]
        return float(self.actor.loss("world", x, TickTargets(*(
            Tensor(np.ascontiguousarray(array[0])) for array in targets))).numpy().sum())


@pytest.mark.parametrize("kind", KINDS)
def test_surprise_is_the_loss_of_the_trainer(trained, tmp_path, kind):
    brain = file_of(trained, tmp_path, KINDS[kind])
    for name in NAMES:
        codec = trained.bodies[name].codec
        seen, expected = observations(codec, 12), Expected(trained, codec)
        brain.begin(name)
        assert math.isnan(brain.act(seen[0], surprise=True)[1])
        for before, now in zip(seen, seen[1:]):
            loss = expected.loss(before, brain.bodies[name].choices, now)
            nats = brain.act(now, surprise=True)[1]
            assert nats == pytest.approx(loss, rel=0.1 if kind == "int8" else 1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_asking_for_it_changes_no_bit(trained, tmp_path, kind):
    first, second = (file_of(trained, tmp_path, KINDS[kind]) for _ in range(2))
    for brain in (first, second):
        brain.begin("rover")
    for t, seen in enumerate(observations(trained.bodies["rover"].codec, 20)):
        if t == 9:
            assert np.array_equal(first.step(65), second.step(65))
        action, nats = second.act(seen, surprise=True)
        assert np.array_equal(first.act(seen), action) and (t == 0 or nats > 0)
        assert np.array_equal(first.control_logits, second.control_logits)


def test_absent_numbers_do_not_count_and_an_episode_begins_without_surprise(trained, tmp_path):
    brain, seen = file_of(trained, tmp_path), [[0, 0, 0, 0], [1, None, 0, np.nan], [np.nan] * 4]
    brain.begin("cartpole")
    nats = [brain.act(numbers, surprise=True)[1] for numbers in seen]
    assert [math.isnan(n) for n in nats] == [True, False, True]
    brain.begin("cartpole")
    assert math.isnan(brain.act([0, 0, 0, 0], surprise=True)[1])
    codec, logits, each = brain.bodies["cartpole"], np.random.default_rng(0).normal(size=128), []
    for numbers in ([1, None, 0, None], [1, None, None, None], [None, None, 0, None]):
        codec.read(numbers)
        each.append(codec.surprise(logits))
    assert each[0] == pytest.approx((each[1] + each[2]) / 2) and abs(each[1] - each[2]) > 0.01


def test_a_brain_that_has_not_learned_to_predict_says_so(tmp_path):
    brain = file_of(untrained("body.world_weight=0"), tmp_path)
    brain.begin("cartpole")
    assert brain.act([0, 0, 0, 0]) in (0, 1)
    with pytest.raises(BrainError, match="cannot tell surprise: .*world_weight=0; train it with"):
        brain.act([0, 0, 0, 0], surprise=True)


@pytest.mark.long
def test_surprise_rises_at_once_when_the_actions_of_a_body_are_reversed(tmp_path):
    for words in (["train", "--body", "cartpole", "--steps", "60", "--threads", "1"],
                  ["export", "--no-verify"]):
        subprocess.run([sys.executable, "-m", "seed", *words, "--run-dir", str(tmp_path)],
                       check=True, stdout=subprocess.DEVNULL)
    brain = Brain(tmp_path / "brain.tflite")

    def surprises(change_at: int) -> np.ndarray:
        rows = np.full((8, 26), np.nan)
        for row in range(8):
            body = CartPole()
            seen, _ = body.reset(seed=1000 + row)
            brain.begin()
            for t in range(26):
                action, rows[row, t] = brain.act(seen, surprise=True)
                seen, _, terminated, *_ = body.step(action if t < change_at else 1 - action)
                if terminated:
                    break
        return np.nanmean(rows[:, 1:], 0)
    unchanged, reversed_ = surprises(99), surprises(20)
    assert np.array_equal(unchanged[:20], reversed_[:20])
    assert unchanged.max() < 2, unchanged
    assert (reversed_[20:] > 2 * unchanged.max()).all(), reversed_
