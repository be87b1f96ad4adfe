"""Every parameter's name, shape and initial value, and its place in the packed tensor of its block.

A block (one mixer or one MLP with its pre-norm) is trained as one flat tensor, because a kernel
then takes one weight and returns one gradient. Inside it each array starts at a multiple of LANES
floats, and the rows of a fused projection are padded to a multiple of LANES with zeros that stay
zero.
"""
import dataclasses
import math
from dataclasses import dataclass

import numpy as np

from seed.config import LANES, ModelConfig, TrainConfig


def round_up(n: int, unit: int = LANES) -> int:
    return (n + unit - 1) // unit * unit


@dataclass(frozen=True)
class Array:
    """One named array. The weights of matrices decay, and their rate depends on d_model.

    `matrices`: the rows of each matrix that the array stacks, none if it holds no matrix. What one
    head or one branch of a gate multiplies by is a matrix of its own.
    """
    name: str
    shape: tuple[int, ...]
    matrices: tuple[int, ...] = ()
    padded_rows: int = 0   # rows held in the packed tensor when more than shape[0]

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def packed_size(self) -> int:
        rows = self.padded_rows or self.shape[0]
        return round_up(rows * math.prod(self.shape[1:]))


@dataclass(frozen=True)
class Block:
    """The arrays of one packed tensor, in order."""
    kind: str              # embedding, ssm, attention, mlp or norm
    name: str              # layers.0.mixer; the arrays' names follow after a dot
    arrays: tuple[Array, ...]

    @property
    def size(self) -> int:
        return sum(a.packed_size for a in self.arrays)

    def offsets(self) -> dict[str, int]:
        """First float of each array in the packed tensor."""
        offsets, at = {}, 0
        for a in self.arrays:
            offsets[a.name] = at
            at += a.packed_size
        return offsets

    def without_matrices(self) -> "Block":
        """The arrays that are not matrices."""
        return dataclasses.replace(self, arrays=tuple(a for a in self.arrays if not a.matrices))

    def key(self, array: Array) -> str:
        """The checkpoint key of an array."""
        return f"{self.name}.{array.name}" if array.name else self.name

    def pack(self, named: dict[str, np.ndarray]) -> np.ndarray:
        flat = np.zeros(self.size, np.float32)
        for a, at in zip(self.arrays, self.offsets().values()):
            flat[at:at + a.size] = named[self.key(a)].reshape(-1)
        return flat

    def unpack(self, flat: np.ndarray) -> dict[str, np.ndarray]:
        """Views of the packed tensor."""
        return {self.key(a): flat[at:at + a.size].reshape(a.shape)
                for a, at in zip(self.arrays, self.offsets().values())}


def proj_columns(config: ModelConfig) -> int:
    """Rows of the SSM in_proj: q, k (n each), v, z (p each), beta and dt (one each) a head."""
    return config.ssm_heads * (2 * config.d_state + 2 * config.head_dim + 2)


def ssm_block(config: ModelConfig, name: str) -> Block:
    d, e, h = config.d_model, config.d_inner, config.ssm_heads
    n, p = config.d_state, config.head_dim
    rows = proj_columns(config)
    return Block("ssm", name, (
        Array("norm", (d,)),
        Array("in_proj", (rows, d), (n, n, p, p) * h + (2 * h,), round_up(rows)),
        Array("conv1d", (config.d_conv, h, 2 * n + p)),
        Array("A_log", (h,)),
        Array("dt_bias", (h,)),
        Array("out_norm", (p,)),
        Array("out_proj", (d, e), (d,))))


def attention_block(config: ModelConfig, name: str) -> Block:
    d = config.d_model
    return Block("attention", name, (
        Array("norm", (d,)),
        Array("qkv_proj", (3 * d, d), (config.head_dim,) * 3 * config.attn_heads),
        Array("out_proj", (d, d), (d,))))


def mlp_block(config: ModelConfig, name: str) -> Block:
    d, f = config.d_model, config.d_ff
    return Block("mlp", name, (
        Array("norm", (d,)),
        Array("in_proj", (2 * f, d), (f, f)),
        Array("out_proj", (d, f), (d,))))


def blocks(config: ModelConfig) -> list[Block]:
    """All packed tensors of a model, in the order in which they are trained and saved."""
    found = [Block("embedding", "embedding", (Array("", (config.vocab_size, config.d_model)),))]
    for i, kind in enumerate(config.layer_kinds):
        mixer = ssm_block if kind == "S" else attention_block
        found += [mixer(config, f"layers.{i}.mixer"), mlp_block(config, f"layers.{i}.mlp")]
    return found + [Block("norm", "norm_f", (Array("", (config.d_model,)),))]


def count_params(config: ModelConfig) -> int:
    return sum(a.size for block in blocks(config) for a in block.arrays)


def moments(all_blocks: list[Block], config: TrainConfig) -> tuple[list[Block], list[Block]]:
    """The blocks with the arrays that have a first moment, and with those that have a second.

    Muon updates matrices by their first moment alone; frozen matrices have neither.
    """
    vectors = [block.without_matrices() for block in all_blocks]
    return (vectors if config.trainable == "no-matrices" else all_blocks,
            all_blocks if (config.trainable, config.optimizer) == ("all", "adamw") else vectors)
