"""A brain acting in episodes that it has never seen, without learning."""
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from seed.body.player import Player
from seed.body.world import Episode, World
from seed.rng import Stream, name_index, stream
from seed.terminal_text import one_line


class Returns(NamedTuple):
    """Of some episodes of a body."""
    body: str
    episodes: int
    mean: float
    half_interval: float         # of the 95 % interval of the mean
    least: float
    success: float | None        # fraction of the episodes; None if the body does not say

    @classmethod
    def of(cls, body: str, episodes: Sequence[Episode]) -> "Returns":
        totals = np.array([episode.total for episode in episodes])
        n, successes = len(totals), [e.is_success for e in episodes if e.is_success is not None]
        spread = float(totals.std(ddof=1)) if n > 1 else 0.0
        return cls(body, n, float(totals.mean()), 1.96 * spread / math.sqrt(n),
                   float(totals.min()),
                   sum(successes) / len(successes) if successes else None)

    def to_dict(self) -> dict[str, Any]:
        return self._asdict()


def returns_table(rows: Sequence[Returns]) -> str:
    """One body a line."""
    lines = [f"{'body':<24}{'return':>10}{'95 % interval':>20}{'least':>10}{'success %':>11}"
             f"{'episodes':>10}"]
    for row in rows:
        low, high = row.mean - row.half_interval, row.mean + row.half_interval
        success = "" if row.success is None else f"{100 * row.success:.0f}"
        lines.append(f"{one_line(row.body):<24}{row.mean:>10.1f}{f'{low:.1f} to {high:.1f}':>20}"
                     f"{row.least:>10.1f}{success:>11}{row.episodes:>10}")
    return "\n".join(lines)


def act(player: Player, open_fn: Callable[[], Any], seed: int, n_episodes: int,
        should_stop_fn: Callable[[], bool] = bool, greedy: bool = True,
        randomize: bool = False) -> list[Episode] | None:
    """At least `n_episodes`, the same number of each row, each from a fresh state; None if the run
    has to stop. Raises BodyError."""
    rows, codec = player.rows, player.codec
    world = World(open_fn, codec, rows, seed, Stream.BODY_EVALUATION, randomize)
    rng = None if greedy else stream(seed, Stream.BODY_EVALUATION, name_index(codec.name))
    per_row, counts, episodes = -(-n_episodes // rows), np.zeros(rows, int), list[Episode]()
    player.begin()
    while counts.min() < per_row:
        if should_stop_fn():
            return None
        levels, _ = codec.levels(world.observations)
        logits = player.tick(*codec.encode(levels, world.previous))
        world.step(codec.sample(logits, rng)[1])
        for episode in world.ended:
            if counts[episode.row] < per_row:
                episodes.append(episode)
            counts[episode.row] += 1
            player.begin(np.array([episode.row]))
        world.ended = []
    return episodes
