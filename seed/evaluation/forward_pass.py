"""Forward passes over whole rows, each captured once as a graph for its shape."""
from functools import cache

import numpy as np

from seed.evaluation.exact_match import ROWS, ForwardFn
from seed.wavecore.model import WaveCore
from seed.wavecore.tinygrad_seam import CapturedGraph, copy_into, zeros


class CapturedForward:
    """Logits of (b, t) tokens from a fresh state, for one b and t."""

    def __init__(self, model: WaveCore, batch_size: int, seq_len: int):
        self.tokens = zeros((batch_size, seq_len), np.int32)
        self._forward = CapturedGraph(lambda: model(self.tokens)[0].realize(), model.arena)

    def run(self, tokens: np.ndarray) -> np.ndarray:
        """tokens (b, t) int32 to logits (b, t, v) float32."""
        copy_into(self.tokens, tokens)
        return self._forward().numpy()


def forward_by_length(model: WaveCore) -> ForwardFn:
    """The forward passes of an evaluation: one captured graph for each row length."""
    graph = cache(lambda t: CapturedForward(model, ROWS, t))
    return lambda t, tokens: graph(t).run(tokens)
