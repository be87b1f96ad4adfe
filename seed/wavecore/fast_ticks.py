"""The kernels of ticks: C specialised by shape, called like the operations of ticks.py."""
import functools
import math
from collections.abc import Sequence

from seed.config import ModelConfig
from seed.wavecore.fast import common_constants, row_tiles
from seed.wavecore.kernel_source import kernel_source, segments
from seed.wavecore.layout import HeadTable
from seed.wavecore.ticks import TickTargets
from seed.wavecore.tinygrad_seam import Tensor, empty, launch, launcher


class TickEmbedding:
    """The weighted sum of rows of the table (v, d); tokens (n, slots) int32, weights (n, slots)."""

    def __init__(self, config: ModelConfig, rows: int, slots: int, vocab: int, threads: int):
        self.shape, self.table_shape = (rows, config.d_model), (vocab, config.d_model)
        constants = {**common_constants(config, 1, rows, threads), "VOCAB": vocab, "SLOTS": slots}
        self.launch_forward = launcher(*kernel_source(
            "tick_embedding.c", "FORWARD", constants, "y", "tokens weights table"))
        self.launch_backward = launcher(*kernel_source(
            "tick_embedding.c", "BACKWARD", constants, "d_table", "dy tokens weights"))

    def __call__(self, tokens: Tensor, weights: Tensor, table: Tensor) -> Tensor:
        return launch([empty(*self.shape)], [tokens, weights, table], self.launch_forward,
                      self._gradient)[0]

    def _gradient(self, dy: Tensor, outputs: list[Tensor],
                  inputs: list[Tensor]) -> Sequence[Tensor | None]:
        return [None, None,
                *launch([empty(*self.table_shape)], [dy, *inputs[:2]], self.launch_backward)]


class TickHead:
    """Final norm and the heads of one table: logits, or the loss."""

    def __init__(self, config: ModelConfig, rows: int, heads: HeadTable, threads: int):
        d, v = config.d_model, heads.rows
        self.heads = heads
        self.shape, self.table_shape, self.logits_shape = (rows, d), (v, d), (rows, v)
        self.forward_scratch, forward = segments({"panels": v * d, "losses": rows})
        self.backward_scratch, backward = segments(
            {"panels": v * d, "xn_panels": rows * d, "d_gains": row_tiles(rows) * d})
        constants = {**common_constants(config, 1, rows, threads), "VOCAB": v,
                     "SCALARS": heads.n_scalars, "POLICY": heads.policy_width}
        self.launch_logits = launcher(*kernel_source(
            "tick_head.c", "LOGITS", constants, "logits panels", "x gain table"))
        self.launch_forward = launcher(*kernel_source(
            "tick_head.c", "FORWARD", constants, "loss d_logits scratch",
            "x gain table weights targets fractions policy", {"scratch": forward},
            units=heads.heads))
        self.launch_backward = launcher(*kernel_source(
            "tick_head.c", "BACKWARD", constants, "dx d_gain d_table scratch",
            "d_loss x gain table d_logits", {"scratch": backward}))

    def logits(self, x: Tensor, gain: Tensor, table: Tensor) -> Tensor:
        return launch([empty(*self.logits_shape), empty(math.prod(self.table_shape))],
                      [x, gain, table], self.launch_logits)[0]

    def loss(self, x: Tensor, gain: Tensor, table: Tensor, target: TickTargets) -> Tensor:
        outputs = [empty(1), empty(*self.logits_shape), empty(self.forward_scratch)]
        return launch(outputs, [x, gain, table, *target], self.launch_forward,
                      self._gradient)[0].reshape(())

    def _gradient(self, d_loss: Tensor, outputs: list[Tensor],
                  inputs: list[Tensor]) -> Sequence[Tensor | None]:
        gradients = launch(
            [empty(*self.shape), empty(self.shape[1]), empty(*self.table_shape),
             empty(self.backward_scratch)],
            [d_loss.contiguous(), *inputs[:3], outputs[1]], self.launch_backward)[:3]
        return [*gradients, *[None] * (len(inputs) - 3)]


@functools.cache
def tick_embedding(config: ModelConfig, rows: int, slots: int, vocab: int,
                   threads: int) -> TickEmbedding:
    """The kernels for one shape: all tables of the shape share them."""
    return TickEmbedding(config, rows, slots, vocab, threads)


@functools.cache
def tick_head(config: ModelConfig, rows: int, heads: HeadTable, threads: int) -> TickHead:
    return TickHead(config, rows, heads, threads)
