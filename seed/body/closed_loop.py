"""A brain acting in episodes that it has never seen, without learning."""
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from seed.body.episodes import Recorder
from seed.body.player import Player
from seed.body.world import Episode, World
from seed.rng import Stream, name_index, stream

EPISODES = 100     # of an evaluation
TICKS = 4096       # of each row, after which fewer are enough


def evaluation(player: Player, open_fn: Callable[[], Any], seed: int,
               should_stop_fn: Callable[[], bool], randomize: bool) -> list[Episode] | None:
    """Greedy episodes, at least EPISODES. If they are long: as many of each row as all rows have
    ended in TICKS, and at least one."""
    return act(player, open_fn, seed, EPISODES, should_stop_fn, randomize=randomize, n_ticks=TICKS)


def later_episodes(player: Player, open_fn: Callable[[], Any], seed: int,
                   should_stop_fn: Callable[[], bool]) -> list[Episode] | None:
    """As of `evaluation`, but each after another one in the same body, which the brain remembers:
    what it can do in context, without learning."""
    episodes = act(player, open_fn, seed, EPISODES + player.rows, should_stop_fn, n_ticks=TICKS,
                   keeps_state=True)
    if episodes is None:
        return None
    of_rows = [[e for e in episodes if e.row == row] for row in range(player.rows)]
    return [episode for row in of_rows for episode in row[1:]]


def act(player: Player, open_fn: Callable[[], Any], seed: int, n_episodes: int,
        should_stop_fn: Callable[[], bool] = bool, greedy: bool = True, randomize: bool = False,
        recorder: Recorder | None = None, n_ticks: float = math.inf,
        keeps_state: bool = False) -> list[Episode] | None:
    """At least `n_episodes`, the same number of each row, each from a fresh state, or with
    `keeps_state` from what is remembered of the row's body; after `n_ticks` fewer are enough. None
    if the run has to stop. Raises BodyError; OSError if they cannot be recorded."""
    rows, codec = player.rows, player.codec
    world = World(open_fn, codec, rows, seed, Stream.BODY_EVALUATION, randomize, keeps_state)
    rng = None if greedy else stream(seed, Stream.BODY_EVALUATION, name_index(codec.name))
    per_row, counts, t = -(-n_episodes // rows), np.zeros(rows, int), 0
    episodes = list[tuple[int, Episode]]()   # with its number in its row
    player.begin()
    while counts.min() < (per_row if t < n_ticks else 1):
        if should_stop_fn():
            return None
        levels, _ = codec.levels(world.observations)
        logits = player.tick(*codec.encode(levels, world.previous))
        observations, choices = world.observations.copy(), codec.sample(logits, rng)[1]
        outcome = world.step(choices)
        if recorder:
            for row in np.flatnonzero(counts < per_row):
                recorder.add(int(row), observations[row], choices[row], outcome.rewards[row])
        for episode in world.ended:
            if recorder and counts[episode.row] < per_row:
                recorder.end(episode.row, world.last_observations[episode.row],
                             bool(outcome.terminated[episode.row]))
            episodes.append((counts[episode.row], episode))
            counts[episode.row] += 1
            if not keeps_state:
                player.begin(np.array([episode.row]))
        world.ended, t = [], t + 1
    return [episode for number, episode in episodes if number < counts.min()]
