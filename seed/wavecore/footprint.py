"""Floats that the kernels' buffers hold, from shapes alone: what a memory estimate is made of."""
from typing import Any, NamedTuple

from seed.config import ModelConfig, TrainConfig
from seed.wavecore import layout
from seed.wavecore.fast_optim import OptimizerKernels
from seed.wavecore.model import kernels_of


class Footprint(NamedTuple):
    """Floats alive at the fullest moment of a pass over (b, t) tokens."""
    activations: int    # what the backward pass needs again, or the widest layer of a forward pass
    scratch: int        # of the kernel that takes most
    state: int          # what the layers carry in and out; training starts from zeros and drops it


def packed_size(config: ModelConfig) -> int:
    """Floats of all weights as they are held, padding included."""
    return sum(block.size for block in layout.blocks(config))


def optimizer(config: ModelConfig, recipe: TrainConfig, threads: int) -> tuple[int, int]:
    """Floats of the moments, and of an update's scratch."""
    kernels = OptimizerKernels(layout.blocks(config), recipe, 1.0, threads)
    moments = sum(block.size for block in (*kernels.first, *kernels.second))
    return moments, kernels.scratch


def _mixers(config: ModelConfig, b: int, t: int, threads: int) -> list[tuple[Any, Any]]:
    """Mixer and MLP kernels of every layer."""
    return [(kernels_of(config, "ssm" if kind == "S" else "attention", b, t, threads),
             kernels_of(config, "mlp", b, t, threads)) for kind in config.layer_kinds]


def _carried(config: ModelConfig, b: int) -> int:
    ssm = config.ssm_heads * ((config.d_conv - 1) * (2 * config.d_state + config.head_dim)
                              + config.d_state * config.head_dim)
    attention = 2 * (config.sliding_window - 1) * config.d_model + 1
    return 2 * b * sum(ssm if kind == "S" else attention for kind in config.layer_kinds)


def training(config: ModelConfig, b: int, t: int, threads: int) -> Footprint:
    """One forward and backward pass: everything saved lives until its layer's gradient."""
    layers = _mixers(config, b, t, threads)
    stream = b * t * config.d_model
    saved = sum(kernel.save + stream for pair in layers for kernel in pair)
    logits = b * t * config.vocab_size
    scratch = max(kernel.backward_scratch for pair in layers for kernel in pair)
    return Footprint(stream + saved + logits + 3 * stream, scratch, 0)


def forward(config: ModelConfig, b: int, t: int, threads: int) -> Footprint:
    """One forward pass: a layer's saved activations are free for the next layer's."""
    layers = _mixers(config, b, t, threads)
    stream = b * t * config.d_model
    saved = max(kernel.save for pair in layers for kernel in pair)
    scratch = max(kernel.forward_scratch for pair in layers for kernel in pair)
    logits = b * t * config.vocab_size
    return Footprint(3 * stream + saved + 2 * logits, scratch, _carried(config, b))
