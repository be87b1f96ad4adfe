"""Advantages and targets of a round, against sums written out."""
import numpy as np
import pytest

from seed.body.codec import LEVELS, Channel, Codec
from seed.body.round import (
    LAMBDA, MIN_PROBABILITY, Played, advantages, control_targets, world_targets)
from seed.body.value_range import ValueRange, moved_rows
from seed.wavecore.layout import VALUE_LEVELS, WORLD_LEVELS

CODEC = Codec("robot", (Channel(-1, 1), Channel(-1, 1)), ((0.0, 1.0), (0.0, 1.0, 2.0)), "indices",
              (2,))
DISCOUNT = 0.9


def random_round(n_ticks=6, n=4, seed=0) -> Played:
    rng, played = np.random.default_rng(seed), Played.empty(CODEC, 6, 4, [])
    played.values[:], played.rewards[:] = rng.normal(size=(2, n_ticks, n))
    played.terminated[:] = rng.random((n_ticks, n)) < 0.2
    played.truncated[:] = (rng.random((n_ticks, n)) < 0.2) & ~played.terminated
    played.levels[:] = rng.integers(0, LEVELS, played.levels.shape)
    played.choices[..., 0] = rng.integers(0, 2, (n_ticks, n))
    played.choices[..., 1] = rng.integers(0, 3, (n_ticks, n))
    for columns in (slice(0, 2), slice(2, 5)):
        p = rng.random((n_ticks, n, columns.stop - columns.start))
        played.policy[..., columns] = p / p.sum(-1, keepdims=True)
    return played


def by_hand(played: Played, t: int, row: int) -> float:
    """Sum of discounted temporal differences up to the end of the episode or of the round."""
    total, factor = 0.0, 1.0
    while t < len(played.rewards):
        value, last = played.values[t, row], t + 1 == len(played.rewards)
        following = value if last or played.truncated[t, row] else played.values[t + 1, row]
        if played.terminated[t, row]:
            following = 0.0
        total += factor * (played.rewards[t, row] + DISCOUNT * following - value)
        if played.terminated[t, row] or played.truncated[t, row]:
            break
        factor, t = factor * DISCOUNT * LAMBDA, t + 1
    return total


def test_advantages_are_generalized_estimates_that_stop_where_an_episode_does():
    played = random_round()
    advantage, returns = advantages(played, DISCOUNT)
    expected = [[by_hand(played, t, row) for row in range(4)] for t in range(6)]
    assert np.allclose(advantage, expected) and np.allclose(returns, advantage + played.values)


def test_the_value_s_target_is_the_return_between_two_levels():
    played, values = random_round(), ValueRange(-5, 5)
    targets = control_targets(CODEC, played, values, DISCOUNT)
    at, share = targets.targets[..., 0], targets.fractions[..., 0]
    target = (1 - share) * values.returns[at] + share * values.returns[at + 1]
    assert np.allclose(target, advantages(played, DISCOUNT)[1], atol=1e-5)
    logits = np.full((1, VALUE_LEVELS), -50.0)
    logits[0, [10, 11]] = 0
    assert values.mean(logits) == pytest.approx(values.returns[10:12].mean())


def test_a_value_reaches_as_far_as_returns_do_and_expects_what_it_did():
    values = ValueRange(-1.0, 2.0)
    assert values.widen(np.linspace(-1, 2, 1000)) is None
    assert values.widen(np.append(np.zeros(999), 9.0)) is None   # rare ones are cut
    at, share = values.two_hot(np.array([-9.0, 9.0]))
    assert (at + share).tolist() == [0, VALUE_LEVELS - 1]
    rows = np.stack([-10 * values.returns ** 2, 20 * values.returns], 1)
    x = np.stack([np.ones(7), np.linspace(-0.5, 1.2, 7)], 1)   # bells around so much
    assert np.allclose(values.mean(x @ rows.T), x[:, 1], atol=0.02)
    moved = moved_rows(rows, values.widen(np.linspace(-0.5, 5, 1000)))
    assert (values.low, values.high) == (-1.0, 5.75)
    assert np.allclose(values.mean(x @ moved.T), x[:, 1], atol=0.05)


def test_the_policy_moves_to_choices_that_went_better_and_away_from_worse():
    played = random_round()
    targets, advantage = control_targets(CODEC, played, ValueRange(-5, 5), DISCOUNT), None
    advantage = advantages(played, DISCOUNT)[0]
    for part, columns in enumerate((slice(0, 2), slice(2, 5))):
        q, p = targets.policy[..., columns], played.policy[..., columns]
        assert np.allclose(q.sum(-1), 1, atol=1e-5)
        choices = played.choices[..., part, None]
        moved, mixed = (np.take_along_axis(x, choices, -1)[..., 0] for x in (q, p))
        mixed = (1 - MIN_PROBABILITY * p.shape[-1]) * mixed + MIN_PROBABILITY
        better = advantage > advantage.mean() + 0.1
        worse = advantage < advantage.mean() - 0.1
        assert (moved > mixed)[better].all() and (moved < mixed)[worse].all()


def test_advantages_that_are_all_alike_teach_nothing():
    played = random_round()
    played.rewards[:] = played.values[:] = 0
    targets = control_targets(CODEC, played, ValueRange(0, 1), DISCOUNT)
    mixed = (1 - 2 * MIN_PROBABILITY) * played.policy[..., :2] + MIN_PROBABILITY
    assert np.allclose(targets.policy[..., :2], mixed, atol=1e-6)


def test_the_next_observation_is_predicted_unless_the_episode_ended():
    played = random_round()
    targets = world_targets(CODEC, played, 2.0)
    ended = played.terminated | played.truncated
    assert not targets.weights[ended].any()
    assert targets.weights.sum() == pytest.approx(2.0, rel=1e-5)
    target = (targets.targets + targets.fractions) / (WORLD_LEVELS - 1) * (LEVELS - 1)
    assert np.allclose(target, played.levels[1:], atol=1e-2)
