"""Runs a brain tick by tick, several bodies of a kind side by side; keeps their states."""
import numpy as np

from seed.body.codec import Codec
from seed.wavecore.actor import Actor, Ticks
from seed.wavecore.model import WaveCore
from seed.wavecore.tinygrad_seam import CapturedGraph, Tensor, buffer_view, copy_into


def zeros(shape: tuple[int, ...], dtype: type = np.float32) -> Tensor:
    return Tensor(np.zeros(shape, dtype)).realize()


class Player:
    """One tick of every row a call."""

    def __init__(self, model: WaveCore, codec: Codec, rows: int):
        actor, body = Actor(model, codec.body), codec.body
        self.codec, self.rows = codec, rows
        self.state = model.init_state(rows)
        self._ticks = Ticks(zeros((rows, body.slots), np.int32), zeros((rows, body.slots)))
        self._before = [array for layer in self.state for array in layer]
        self._after: list[np.ndarray] = []

        def run() -> list[Tensor]:
            x, after = actor.hidden(self._ticks, self.state, rows, 1)
            outputs = [actor.logits(x), *(array for layer in after for array in layer)]
            Tensor.realize(*outputs)
            return outputs
        self._run = CapturedGraph(run)

    def tick(self, tokens: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """tokens, weights (rows, slots) to logits (rows, columns of the control heads), which are
        valid until the next call."""
        copy_into(self._ticks.tokens, tokens)
        copy_into(self._ticks.weights, weights)
        logits, *after = self._run()
        for old, new in zip(self._before, after, strict=True):
            copy_into(old, buffer_view(new))
        return buffer_view(logits)

    def begin(self, rows: np.ndarray | slice = slice(None)) -> None:
        """Those rows are as before the first tick."""
        for array in self._before:
            buffer_view(array)[rows] = 0

    def state_arrays(self) -> list[np.ndarray]:
        """Views of the carried state, of every layer in order."""
        return [buffer_view(array) for array in self._before]
