"""Forward passes over sequences of bytes, captured once as a graph for their shape."""
from functools import cache

import numpy as np

from seed.evaluation.exact_match import ForwardFn, graph_size
from seed.wavecore.fast import Sequences
from seed.wavecore.model import WaveCore
from seed.wavecore.stepping import StepGraph
from seed.wavecore.tinygrad_seam import CapturedGraph, buffer_view, copy_into, zeros


class CapturedForward:
    """Logits of (b, t) tokens from a fresh state, for one b and t."""

    def __init__(self, model: WaveCore, batch_size: int, seq_len: int):
        self.tokens = zeros((batch_size, seq_len), np.int32)
        self._forward = CapturedGraph(lambda: model(self.tokens)[0].realize(), model.arena)

    def run(self, tokens: np.ndarray) -> np.ndarray:
        """tokens (b, t) int32 to logits (b, t, v) float32."""
        copy_into(self.tokens, tokens)
        return self._forward().numpy()


class VarlenForward:
    """Logits of at most t tokens: sequences of any lengths, each from a fresh state. Nothing is
    computed for a row's padding, as there is none."""

    def __init__(self, model: WaveCore, t: int):
        tokens, cu_seqlens, n = (zeros(shape, np.int32) for shape in ((1, t), (t + 1,), (1,)))
        self._tokens, self._cu_seqlens, self._n = map(buffer_view, (tokens, cu_seqlens, n))
        sequences = Sequences(cu_seqlens, n)
        self._graph = StepGraph(model, lambda steps: steps.varlen_logits(tokens, sequences, t))

    def run(self, tokens: np.ndarray, cu_seqlens: np.ndarray) -> np.ndarray:
        """tokens (n,) in sequences to logits (n, v), which are valid until the next call."""
        self._tokens[0, :len(tokens)] = tokens
        self._cu_seqlens[:len(cu_seqlens)] = cu_seqlens
        self._n[0] = len(cu_seqlens) - 1
        return self._graph()[:len(tokens)]


def varlen_forward(model: WaveCore) -> ForwardFn:
    """The forward passes of an evaluation: one captured graph, and more for longer items."""
    graph = cache(lambda t: VarlenForward(model, t))
    return lambda tokens, cu_seqlens: graph(graph_size(len(tokens))).run(tokens, cu_seqlens)
