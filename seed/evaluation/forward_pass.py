"""Forward passes over whole rows, each captured once as a graph for its shape."""
import numpy as np
from tinygrad import Tensor

from seed.evaluation.exact_match import ROWS
from seed.wavecore.model import WaveCore
from seed.wavecore.tinygrad_seam import capture, copy_into


class CapturedForward:
    """Logits of (b, t) tokens from a fresh state, for one b and t."""

    def __init__(self, model: WaveCore, batch_size: int, seq_len: int):
        self.tokens = Tensor(np.zeros((batch_size, seq_len), np.int32)).realize()
        self._forward = capture(lambda: model(self.tokens)[0].realize())

    def run(self, tokens: np.ndarray) -> np.ndarray:
        """tokens (b, t) int32 to logits (b, t, v) float32."""
        copy_into(self.tokens, tokens)
        return self._forward().numpy()


class ForwardByLength:
    """The forward passes of an evaluation: one captured graph for each row length."""

    def __init__(self, model: WaveCore):
        self.model = model
        self.graphs: dict[int, CapturedForward] = {}

    def __call__(self, t: int, tokens: np.ndarray) -> np.ndarray:
        """tokens (ROWS, t) int32 to logits (ROWS, t, v)."""
        if t not in self.graphs:
            self.graphs[t] = CapturedForward(self.model, ROWS, t)
        return self.graphs[t].run(tokens)
