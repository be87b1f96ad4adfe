"""A brain learns from recorded episodes, round by round, as a body in training does from its play:
all choices (behaviour cloning), or those that went better than it expects after what was recorded
(one step of policy improvement, as in Brandfonbrener et al. 2106.08909).

Who acts well mostly does the same as a tick before, so a brain that is told its last action only
repeats it (de Haan et al. 1905.11979). In a body that is only cloned it adds nothing to a tick: its
rows of the table are zeros, and stay so.

Each row goes through the segments of the data in an order of its own, a round after the other, with
its state carried from round to round. The ticks of a round are a pure function of (seed, round).
"""
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from seed.body import round as rounds
from seed.body.closed_loop import evaluation
from seed.body.codec import Codec
from seed.body.facts import Facts
from seed.body.open_body import opener_of_data
from seed.body.play import RoundResult, take_steps
from seed.body.player import Player
from seed.body.results import ChoiceAccuracy, Returns
from seed.body.round import Examples, Played, Targets
from seed.body.stored import Stored, segments_of
from seed.body.tensor_names import row_name
from seed.body.tick_step import TickStep
from seed.config import BodyConfig
from seed.rng import Stream, name_index, stream
from seed.wavecore.layout import VALUE_LEVELS
from seed.wavecore.model import WaveCore
from seed.wavecore.optim import Optimizer
from seed.wavecore.tinygrad_seam import buffer_view

SMOOTHING = 0.02            # of a target, that all choices share
POLICY_WEIGHT, VALUE_WEIGHT = 1.0, 0.5   # of the choices and the value in the loss
EVALUATION_TICKS = 16_384   # of those held out, at most


def hide_last_action(model: WaveCore, codec: Codec) -> None:
    """In a new brain: the action before a tick adds nothing to it."""
    model.set_rows(f"bodies.{codec.name}.input", codec.last_action[0], 0.0)


def _last_action_rows(model: WaveCore, codec: Codec) -> np.ndarray:
    return model.state_dict()[f"bodies.{codec.name}.input"][codec.last_action[0]]


class ClonePlay:
    """One directory of episodes, its rows, state and graphs; `name` is the directory."""

    def __init__(self, model: WaveCore, optim: Optimizer | None, name: str, data: Stored,
                 facts: Facts, config: BodyConfig, seed: int, has_returns: bool = True):
        self.model, self.optim, self.config, self.seed = model, optim, config, seed
        self.name, self.data, self.facts, self.codec = name, data, facts, facts.codec
        self._has_returns = has_returns   # to be reported, if the body can be opened
        self._train, self._held_out = data.split()
        self._segments = segments_of(self._is_first(self._train), config.ticks)
        self._sizes = np.array([-(-(s.stop - s.start) // config.ticks) for s in self._segments])
        self._orders: dict[int, tuple[int, np.ndarray]] = {}   # row -> epoch, order of segments
        self._player: Player | None = None
        self._step: TickStep | None = None
        self._state = [buffer_view(tensor).copy()
                       for layer in model.init_state(config.rows) for tensor in layer]

    def _is_first(self, ticks: np.ndarray) -> np.ndarray:
        """Where an episode, or what is left of it, begins among ticks in order."""
        is_first: np.ndarray = self.data.begins[ticks] | (np.diff(ticks, prepend=-2) != 1)
        return is_first

    def _order(self, row: int, epoch: int) -> np.ndarray:
        if self._orders.get(row, (-1,))[0] != epoch:
            rng = stream(self.seed, Stream.BODY_DATA,
                         name_index(f"{self.data.digest} {row} {epoch}"))
            self._orders[row] = epoch, rng.permutation(len(self._segments))
        return self._orders[row][1]

    def ticks(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of round `number`: ticks (T, n) of the data, which of them count, and the rows (n,) that
        begin with an empty state."""
        rows, t = self.config.rows, self.config.ticks
        epoch, offset = divmod(number, int(self._sizes.sum()))
        index, counts = np.zeros((t, rows), np.int64), np.zeros((t, rows), bool)
        begins = np.zeros(rows, bool)
        for row in range(rows):
            order = self._order(row, epoch)
            ends = np.cumsum(self._sizes[order])
            i = int(np.searchsorted(ends, offset, "right"))
            segment = self._segments[order[i]]
            part = offset - (ends[i] - self._sizes[order[i]])
            at = segment.start + part * t + np.arange(t)
            index[:, row] = self._train[np.minimum(at, segment.stop - 1)]
            counts[:, row] = (at < segment.stop) & (part > 0 or not segment.begins_inside)
            begins[row] = part == 0
        return index, counts, begins

    def play(self, number: int, should_stop_fn: Callable[[], bool]) -> Examples | None:
        """Round `number`; None if the run has to stop."""
        if should_stop_fn():
            return None
        data, (index, counts, begins) = self.data, self.ticks(number)
        state = [array.copy() for array in self._state]
        for array in state:
            array[begins] = 0
        tokens, weights = self._inputs(index)
        choices = data.choices[index].astype(np.int64)
        following = data.levels[np.minimum(index + 1, len(data.levels) - 1)].astype(np.int64)
        world = rounds.next_observation_targets(self.codec, following, counts & ~data.ends[index],
                                                self.config.world_weight)
        control: Targets | None
        if self.config.data_goal == "rewards":
            control = self._better(number, index, counts, (tokens, weights), state, should_stop_fn)
        else:
            control = self._control(index, choices, counts)
        return control and Examples(tokens, weights, choices, control, world, state)

    def _better(self, number: int, index: np.ndarray, counts: np.ndarray,
                ticks: tuple[np.ndarray, np.ndarray], state: list[np.ndarray],
                should_stop_fn: Callable[[], bool]) -> Targets | None:
        """Targets as of play, with what the brain thinks at the recorded ticks; None if the run
        has to stop."""
        n_ticks, rows = index.shape
        played = Played.empty(self.codec, n_ticks, rows, state)._replace(
            choices=self.data.choices[index].astype(np.int64), rewards=self.data.rewards[index],
            terminated=self.data.terminated[index] & counts,
            truncated=(self.data.ends & ~self.data.terminated)[index] | ~counts)
        player = self._acting()
        for before, array in zip(player.state_arrays(), state):
            before[...] = array
        for t, (tokens, weights) in enumerate(zip(*ticks)):
            if should_stop_fn():
                return None
            logits = player.tick(tokens, weights)
            played.values[t] = self.facts.values.mean(logits[:, :VALUE_LEVELS])
            played.policy[t], _ = self.codec.sample(logits)
        control = rounds.control_targets(
            self.codec, played, self.facts.values, self.config.discount,
            0.0 if number < self.config.value_rounds else rounds.ETA, only_better=True)
        factor = counts[..., None] * np.float32(counts.size / max(1, counts.sum()))
        return control._replace(weights=control.weights * factor)

    def _acting(self) -> Player:
        if self._player is None:
            self._player = Player(self.model, self.codec, self.config.rows)
        return self._player

    def _inputs(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        levels = self.data.levels[index].astype(np.int64)
        tokens, weights = self.codec.encode(levels, self.data.previous(index))
        if self.config.data_goal == "choices" and not _last_action_rows(self.model,
                                                                        self.codec).any():
            weights[..., self.codec.last_action[1]] = 0   # so that no gradient changes the zeros
        return tokens, weights

    def _control(self, index: np.ndarray, choices: np.ndarray, counts: np.ndarray) -> Targets:
        """Of the recorded choice and the return from there."""
        at, share = self.facts.values.two_hot(self.data.returns[index])
        heads = self.codec.body.control.heads
        policy = np.zeros((*index.shape, self.codec.body.control.policy_width), np.float32)
        weights = np.zeros((*index.shape, len(heads)), np.float32)
        part, scale = 0, counts / max(1, counts.sum())
        for i, head in enumerate(heads):
            if head.is_scalar:
                weights[..., i] = VALUE_WEIGHT * scale * self.data.seen[index]
                continue
            columns = slice(head.place, head.place + head.width)
            policy[..., columns] = ((1 - SMOOTHING) * np.eye(head.width)[choices[..., part]]
                                    + SMOOTHING / head.width)
            weights[..., i] = POLICY_WEIGHT * scale
            part += 1
        return Targets(weights, at[..., None], share[..., None], policy)

    def learn(self, examples: Examples, lr: float) -> RoundResult:
        """One pass, if all choices are learnt: the next round has other ticks. Its state is carried
        into the next round."""
        config = self.config
        assert self.optim, "it is to be trained"
        if self._step is None:
            self._step = TickStep(self.model, self.optim, self.codec, config.rows, config.chunk,
                                  config.world_weight > 0)
        passes = 1 if config.data_goal == "choices" else config.passes
        loss, skipped = take_steps(self._step, examples, config.ticks, passes, lr)
        after = self._step.state()
        is_finite = all(np.isfinite(array).all() for array in after)
        self._state = after if is_finite else [np.zeros_like(array) for array in after]
        return RoundResult(loss, self.optim.grad_norm(), skipped, None, None, 0)

    def evaluate(self, should_stop_fn: Callable[[], bool]) -> list[Returns | ChoiceAccuracy] | None:
        """Of the recorded choices that are held out, and of the body in unseen episodes if it can
        be opened; None if the run has to stop."""
        player = self._acting()
        accuracy = self._accuracy(player, should_stop_fn)
        open_fn = (opener_of_data(self.data.body, self.codec, self.config) if self._has_returns
                   else None)
        if accuracy is None or open_fn is None:
            return None if accuracy is None else [accuracy]
        episodes = evaluation(player, open_fn, self.seed, should_stop_fn, self.config.randomize)
        return None if episodes is None else [Returns.of(self.data.body, episodes), accuracy]

    def _accuracy(self, player: Player, should_stop_fn: Callable[[], bool]
                  ) -> ChoiceAccuracy | None:
        """Greedy choices where the recorded ones came before; several pieces side by side."""
        ticks = self._held_out[:EVALUATION_TICKS]
        index = np.resize(ticks, (player.rows, -(-len(ticks) // player.rows))).T   # (t, n)
        begins = self._is_first(ticks)[np.searchsorted(ticks, index)]
        hits = n = 0
        player.begin()
        for t, row_ticks in enumerate(index):
            if should_stop_fn():
                return None
            player.begin(np.flatnonzero(begins[t]))
            choices = self.codec.sample(player.tick(*self._inputs(row_ticks)))[1]
            hits += int((choices == self.data.choices[row_ticks]).sum())
            n += choices.size
        return ChoiceAccuracy(self.data.body, self.name, hits / n, len(ticks))

    def state_dict(self) -> dict[str, np.ndarray]:
        """float32: the carried state."""
        return {row_name(self.name, i): array.astype(np.float32)
                for i, array in enumerate(self._state)}

    def to_meta(self) -> dict[str, Any]:
        return {**self.facts.to_dict(), "data": {self.name: self.data.digest}}

    def load(self, tensors: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
        for i, array in enumerate(self._state):
            array[...] = tensors[row_name(self.name, i)]
