"""A captured graph that carries a state on from call to call, and the memory of its inputs."""
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from seed.wavecore.tinygrad_seam import CapturedGraph, Tensor, buffer_view


class Hearing(NamedTuple):
    """The first rows of a batch, if they do not begin with an empty state."""
    state: Sequence[np.ndarray]   # (rows, ...) float32 of each layer's arrays, before the batch
    take_fn: Callable[[Sequence[np.ndarray]], object]   # of the same, after it


class CarriedGraph:
    """`run_fn` returns a result and what follows each tensor of `state`, which replaces it."""

    def __init__(self, run_fn: Callable[[], Sequence[Tensor]], state: Sequence[Tensor]):
        self._graph = CapturedGraph(run_fn)
        self.state = [buffer_view(tensor) for tensor in state]
        self._outputs: list[np.ndarray] = []   # once they stay where they are

    def __call__(self) -> np.ndarray:
        """The result's memory, valid until the next call."""
        outputs = self._outputs
        if outputs:
            self._graph()
        else:
            outputs = [buffer_view(tensor) for tensor in self._graph()]
            if self._graph.is_replayed:
                self._outputs = outputs
        for before, after in zip(self.state, outputs[1:], strict=True):
            np.copyto(before, after, casting="no")
        return outputs[0]
