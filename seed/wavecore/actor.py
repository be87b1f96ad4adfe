"""A brain with bodies: ticks in, value, action and the next observation out."""
from typing import Any, NamedTuple, cast

import numpy as np

from seed.config import ModelConfig
from seed.rng import Stream, name_index, stream
from seed.wavecore.layout import BodyShape
from seed.wavecore.model import MAX_ONE_THREAD_ROWS, State, WaveCore, rms_norm
from seed.wavecore.stepping import Stepper
from seed.wavecore.ticks import TickTargets, tick_embedding, tick_loss
from seed.wavecore.tinygrad_seam import Tensor

INPUT_SCALE, HEAD_SCALE = 0.05, 0.01   # standard deviations of new tables


def init_body(config: ModelConfig, body: BodyShape, seed: int) -> dict[str, np.ndarray]:
    """Initial tables of a body, float32; a pure function of (config, body, seed)."""
    rng = stream(seed, Stream.BODY_INIT, name_index(body.name))
    tables = {}
    for block in body.blocks(config):
        array, = block.arrays
        is_input = block.name.endswith(".input")
        tables[block.name] = (rng.standard_normal(array.shape) * (
            INPUT_SCALE if is_input else HEAD_SCALE)).astype(np.float32)
    for name, heads in (("control", body.control), ("world", body.world)):
        is_padding = np.ones(heads.rows, bool)
        for head in heads.heads:
            is_padding[head.start:head.start + head.width] = False
        tables[f"bodies.{body.name}.{name}"][is_padding] = 0
    return tables


class Ticks(NamedTuple):
    """Input of n = b*t ticks."""
    tokens: Tensor    # (n, slots) int32, rows of the input table
    weights: Tensor   # (n, slots)


class Actor:
    """The part of a model that belongs to one of its bodies."""

    def __init__(self, model: WaveCore, body: BodyShape):
        self.model, self.body = model, body

    def hidden(self, ticks: Ticks, state: State, b: int, t: int) -> tuple[Tensor, State]:
        """x after all layers, as WaveCore.layers gives it, and the state after the ticks."""
        x = self._embed(*ticks, "input", self.body.slots)
        return self.model.layers(x.reshape(b, t, -1) if self.model.reference else x, state, b, t)

    def logits(self, x: Tensor) -> Tensor:
        """(n, columns of body.control), of the value and the action."""
        if not self.model.reference:
            return self._heads("control", x).logits(x, *self._weights("control"))
        gain, table = self._weights("control")
        x = x.reshape(-1, x.shape[-1])
        return rms_norm(x, gain, self.model.config.stream_eps) @ table.T

    def step(self, steps: Stepper, ticks: Ticks, state: State, b: int) -> Tensor:
        """`logits` after a tick of each row; `state` changes in place."""
        x = steps.layers(self._embed(*ticks, "input", self.body.slots), state, b, 1)
        return steps.head(x, self._heads("control", x), f"bodies.{self.body.name}.control")

    def loss(self, name: str, x: Tensor, target: TickTargets) -> Tensor:
        """Of the heads "control" or "world"; for the latter x comes from `after_action`."""
        if not self.model.reference:
            return self._heads(name, x).loss(x, *self._weights(name), target)
        gain, table = self._weights(name)
        x = rms_norm(x.reshape(-1, x.shape[-1]), gain, self.model.config.stream_eps)
        return tick_loss(getattr(self.body, name), x @ table.T, target)

    def after_action(self, x: Tensor, actions: Ticks) -> Tensor:
        """x plus a row for each part of the action that was taken."""
        return x + self._embed(*actions, "action", len(self.body.choices)).reshape(x.shape)

    def _table(self, name: str) -> Tensor:
        packed = self.model.packed[f"bodies.{self.body.name}.{name}"]
        return packed.reshape(-1, self.model.config.d_model)

    def _weights(self, name: str) -> tuple[Tensor, Tensor]:
        return self.model.packed["norm_f"], self._table(name)

    def _threads(self, rows: int) -> int:
        return self.model.threads if rows > MAX_ONE_THREAD_ROWS else 1

    def _embed(self, tokens: Tensor, weights: Tensor, name: str, slots: int) -> Tensor:
        table, rows = self._table(name), cast(int, tokens.shape[0])
        if self.model.reference:
            return tick_embedding(tokens, weights, table)
        from seed.wavecore import fast_ticks
        vocab = cast(int, table.shape[0])
        return fast_ticks.tick_embedding(self.model.config, rows, slots, vocab,
                                         self._threads(rows))(tokens, weights, table)

    def _heads(self, name: str, x: Tensor) -> Any:
        from seed.wavecore import fast_ticks   # which imports the model
        rows = cast(int, x.shape[0])
        return fast_ticks.tick_head(self.model.config, rows, getattr(self.body, name),
                                    self._threads(rows))
