"""Runs a brain tick by tick, several bodies of a kind side by side; keeps their states."""
import numpy as np

from seed.body.codec import Codec
from seed.wavecore.actor import Actor, Ticks
from seed.wavecore.model import WaveCore
from seed.wavecore.stepping import StepGraph
from seed.wavecore.tinygrad_seam import buffer_view, zeros


class Player:
    """One tick of every row a call."""

    def __init__(self, model: WaveCore, codec: Codec, rows: int):
        actor, body = Actor(model, codec.body), codec.body
        self.codec, self.rows = codec, rows
        self.state = model.init_state(rows)
        ticks = Ticks(zeros((rows, body.slots), np.int32), zeros((rows, body.slots)))
        self._tokens, self._weights = map(buffer_view, ticks)

        self._arrays = [buffer_view(array) for layer in self.state for array in layer]
        self._run = StepGraph(model, lambda steps: actor.step(steps, ticks, self.state, rows))

    def tick(self, tokens: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """tokens, weights (rows, slots) to logits (rows, columns of the control heads), which are
        valid until the next call."""
        np.copyto(self._tokens, tokens, casting="no")
        np.copyto(self._weights, weights, casting="no")
        return self._run()

    def begin(self, rows: np.ndarray | slice = slice(None)) -> None:
        """Those rows are as before the first tick."""
        for array in self._arrays:
            array[rows] = 0

    def state_arrays(self) -> list[np.ndarray]:
        """The carried state's memory, of every layer in order."""
        return self._arrays
