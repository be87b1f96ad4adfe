"""Steps of a model, one after the other: its matrices are packed once for all of them, and the
carried state changes in place.

Nobody else has what is packed: a captured step (`StepGraph`) packs again before it runs, if the
weights have changed since (`WaveCore.version`).
"""
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from seed.wavecore import layout
from seed.wavecore.model import LayerState, State, WaveCore
from seed.wavecore.tinygrad_seam import CapturedGraph, Tensor, buffer_view, zeros

if TYPE_CHECKING:
    from seed.wavecore.fast import HeadKernels, Sequences


class Stepper:
    """What a captured step is made of: the layers and heads of a model, by its packed matrices."""

    def __init__(self, model: WaveCore):
        from seed.wavecore import fast   # which imports the model
        self.model = model
        self._packers = {block.name: fast.Packer(model.config, block) for block in model.blocks
                         if layout.packed_matrices(block)}
        self._panels = {name: zeros((packer.size,)) for name, packer in self._packers.items()}
        self._pack = CapturedGraph(lambda: Tensor.realize(*self.packed()))
        self._version = -1   # of the weights that are packed

    def refresh(self) -> None:
        """Packs the weights unless they are packed as they are."""
        version = self.model.version
        if self._version != version:
            self._pack()
            self._version = version

    def packed(self) -> list[Tensor]:
        """To be realized: the packed matrices, which change in place."""
        return [packer(self.model.packed[name], self._panels[name])
                for name, packer in self._packers.items()]

    def logits(self, tokens: Tensor, state: State, b: int, t: int) -> Tensor:
        """As WaveCore.__call__, but `state` changes in place."""
        x = self.layers(self.model.embed(tokens), state, b, t)
        head = self.model.kernels("head", b, t)
        return self.head(x, head, "embedding").reshape(b, t, -1)

    def varlen_logits(self, tokens: Tensor, sequences: "Sequences", t: int) -> Tensor:
        """tokens (1, t) to logits (t, v), of sequences that each begin with an empty state."""
        x = self.model.embed(tokens)
        for i, letter in enumerate(self.model.config.layer_kinds):
            for kind, half in ((layout.BLOCKS[letter], "mixer"), (layout.MLP, "mlp")):
                name = f"layers.{i}.{half}"
                x = self.model.kernels(kind.name, 1, t).varlen(
                    x, self.model.packed[name], self._panels[name], sequences)
        return self.head(x, self.model.kernels("head", 1, t), "embedding")

    def layers(self, x: Tensor, state: State, b: int, t: int) -> Tensor:
        """All layers on x (b*t, d); `state` changes in place."""
        for i, (letter, carried) in enumerate(zip(self.model.config.layer_kinds, state,
                                                  strict=True)):
            x = self._block(layout.BLOCKS[letter], f"layers.{i}.mixer", b, t, x, carried)
            x = self._block(layout.MLP, f"layers.{i}.mlp", b, t, x)
        return x

    def head(self, x: Tensor, kernels: "HeadKernels", table: str) -> Tensor:
        """Logits (b*t, v) by the final norm and a table."""
        return kernels.step(x, self.model.packed["norm_f"], self._panels[table])

    def _block(self, kind: layout.BlockKind, name: str, b: int, t: int, x: Tensor,
               state: LayerState | tuple[()] = ()) -> Tensor:
        return self.model.kernels(kind.name, b, t).step(x, self.model.packed[name],
                                                        self._panels[name], *state)


class StepGraph:
    """A captured graph of steps."""

    def __init__(self, model: WaveCore, step_fn: Callable[[Stepper], Tensor]):
        """`step_fn` makes the result."""
        self._stepper = model.stepper
        self._graph = CapturedGraph(lambda: step_fn(self._stepper).realize(), model.arena)
        self._output: np.ndarray | None = None   # once it stays where it is

    def __call__(self) -> np.ndarray:
        """The result's memory, valid until the next call."""
        self._stepper.refresh()
        if self._output is not None:
            self._graph()
            return self._output
        output = buffer_view(self._graph())
        if self._graph.is_replayed:
            self._output = output
        return output
