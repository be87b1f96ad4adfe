"""The kernels of ticks: C specialised by shape, called like the operations of ticks.py."""
import functools
from collections.abc import Sequence

from seed.config import ModelConfig
from seed.wavecore.fast import HeadKernels, common_constants
from seed.wavecore.kernel_source import kernel_source
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


class TickHead(HeadKernels):
    """Final norm and the heads of one table: logits, or the loss."""

    def __init__(self, config: ModelConfig, rows: int, heads: HeadTable, threads: int):
        super().__init__(config, rows, heads.rows, "tick_head.c", {
            **common_constants(config, 1, rows, threads), "SCALARS": heads.n_scalars,
            "POLICY": heads.policy_width})
        self.launch_forward = launcher(*kernel_source(
            "tick_head.c", "FORWARD", self.constants, "loss d_logits scratch",
            "x gain table weights targets fractions policy", self.arrays, units=heads.heads))

    def loss(self, x: Tensor, gain: Tensor, table: Tensor, target: TickTargets) -> Tensor:
        return self._loss([x, gain, table, *target], self.launch_forward)


@functools.cache
def tick_embedding(config: ModelConfig, rows: int, slots: int, vocab: int,
                   threads: int) -> TickEmbedding:
    """The kernels for one shape: all tables of the shape share them."""
    return TickEmbedding(config, rows, slots, vocab, threads)


@functools.cache
def tick_head(config: ModelConfig, rows: int, heads: HeadTable, threads: int) -> TickHead:
    return TickHead(config, rows, heads, threads)
