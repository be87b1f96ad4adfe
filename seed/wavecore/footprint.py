"""Floats that the kernels' buffers hold, from shapes alone: the basis of memory estimates."""
import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from seed.config import ModelConfig, TrainConfig
from seed.wavecore import fast, layout
from seed.wavecore.fast_optim import thread_scratch


class Footprint(NamedTuple):
    """Floats alive at the fullest moment of a pass."""
    activations: int    # what the backward pass needs again and the logits, or the stream
    scratch: int        # of the kernel that takes most
    held: int           # between passes too: outputs and carried states; training drops them


def packed_size(config: ModelConfig, bodies: Sequence[layout.BodyShape] = ()) -> int:
    """Floats of all weights as they are held, padding included."""
    return sum(block.size for block in layout.blocks(config, bodies))


@functools.cache   # a size search asks for the same sizes again and again
def optimizer(config: ModelConfig, recipe: TrainConfig, threads: int,
              bodies: tuple[layout.BodyShape, ...] = ()) -> tuple[int, int]:
    """Floats of the moments, and of an update's scratch."""
    blocks = layout.blocks(config, bodies)
    first, second = layout.moments(blocks, recipe)
    return sum(b.size for b in (*first, *second)), threads * thread_scratch(blocks, recipe)


def _kernels(config: ModelConfig, b: int, t: int, threads: int) -> list[Any]:
    """Of every mixer and MLP."""
    return [fast.kernels_of(config, kind.name, b, t, threads)
            for layer in range(config.n_layers) for _, kind in layout.halves(config, layer)]


def training(config: ModelConfig, b: int, t: int, threads: int) -> Footprint:
    """One forward and backward pass: everything saved lives until its layer's gradient, but what
    the last MLP makes again."""
    kernels, stream = _kernels(config, b, t, threads), b * t * config.d_model
    saved = sum(kernel.save + stream for kernel in kernels) - kernels[-1].save
    scratch = max(kernel.backward_scratch for kernel in kernels)
    return Footprint(4 * stream + saved + b * t * config.vocab_size, scratch, 0)


def ticks(config: ModelConfig, body: layout.BodyShape, rows: int, t: int) -> int:
    """Floats of the inputs, targets and logits of one optimizer step over ticks of a body."""
    heads = (body.control, body.world)
    columns = sum(table.rows + table.policy_width + 2 * table.n_scalars + len(table.heads)
                  for table in heads)
    return rows * t * (2 * body.slots + 2 * len(body.choices) + columns)


def step(config: ModelConfig, rows: int, threads: int) -> Footprint:
    """One step of many, which saves nothing and changes the state in place. What all steps of a
    model share, its packed matrices, takes no more than its weights."""
    outputs = _unsaved(config, rows, 1, threads)
    return outputs._replace(held=outputs.held + rows * _row_state(config))


def varlen(config: ModelConfig, t: int, threads: int) -> Footprint:
    """One pass over sequences that have t bytes together; else as `step`."""
    return _unsaved(config, 1, t, threads)


def _unsaved(config: ModelConfig, b: int, t: int, threads: int) -> Footprint:
    scratch = max(kernel.step_scratch for kernel in _kernels(config, b, t, threads))
    return Footprint(3 * b * t * config.d_model, scratch, b * t * config.vocab_size)


def _row_state(config: ModelConfig) -> int:
    return sum(math.prod(array.shape) for letter in config.layer_kinds
               for array in layout.BLOCKS[letter].state_fn(config))
