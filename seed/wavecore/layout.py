"""Every parameter's name and shape, its place in the packed tensor of its block, and the table
`BLOCKS` of what differs by kind of block.

A block (a mixer or an MLP with its pre-norm) is trained as one flat tensor, so that a kernel takes
one weight and returns one gradient. Each array starts at a multiple of LANES floats in it; the rows
of a fused projection are padded to a multiple of LANES with zeros that stay zero.
"""
import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from seed.config import LANES, ModelConfig, TrainConfig
from seed.errors import ParameterError


def round_up(n: int, unit: int = LANES) -> int:
    return (n + unit - 1) // unit * unit


@dataclass(frozen=True)
class Array:
    """One named array. The weights of matrices decay, and their rate depends on d_model."""
    name: str
    shape: tuple[int, ...]
    matrices: tuple[int, ...] = ()   # rows of each that it stacks: one a head, or branch of a gate
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


def packed_matrices(block: Block) -> tuple[Array, ...]:
    """What many steps read by columns: the projections, and the tables of heads that act."""
    if block.kind == "embedding":
        is_head = block.name == "embedding" or block.name.endswith(".control")
        return block.arrays if is_head else ()
    return tuple(array for array in block.arrays if array.matrices)


def proj_columns(config: ModelConfig) -> int:
    """Rows of the SSM in_proj: q, k (n each), v, z (p each), beta and dt (one each) a head; where
    states turn, also the turn of each pair of rows (n/2)."""
    return config.ssm_heads * (2 * config.d_state + 2 * config.head_dim + 2 + state_pairs(config))


def state_pairs(config: ModelConfig) -> int:
    """Of rows of a head's state, that turn together: row i and row i + n/2. 0: they do not turn."""
    return config.d_state // 2 if config.rotary_steps else 0


def ssm_block(config: ModelConfig, name: str) -> Block:
    d, e, h = config.d_model, config.d_inner, config.ssm_heads
    n, p, pairs = config.d_state, config.head_dim, state_pairs(config)
    rows, turns = proj_columns(config), (pairs,) * h if pairs else ()
    return Block("ssm", name, (
        Array("norm", (d,)),
        Array("in_proj", (rows, d), (n, n, p, p) * h + (2 * h,) + turns, round_up(rows)),
        Array("conv1d", (config.d_conv, h, 2 * n + p)),
        Array("A_log", (h,)),
        Array("dt_bias", (h,)),
        *([Array("beta_bias", (h,))] if pairs else []),
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


class StateArray(NamedTuple):
    """What a mixer carries from one byte to the next, for one row of a batch."""
    name: str
    shape: tuple[int, ...]
    dtype: type = np.float32


def ssm_state(config: ModelConfig) -> tuple[StateArray, ...]:
    h, n, p, pairs = config.ssm_heads, config.d_state, config.head_dim, state_pairs(config)
    phase = (StateArray("phase", (h, pairs), np.int32),) if pairs else ()   # parts of a turn
    return (StateArray("conv", (config.d_conv - 1, h, 2 * n + p)), StateArray("ssm", (h, n, p)),
            *phase)


def attention_state(config: ModelConfig) -> tuple[StateArray, ...]:
    cache = (config.sliding_window - 1, config.d_model)
    return StateArray("k", cache), StateArray("v", cache), StateArray("length", (), np.int32)


class HeadIndex(NamedTuple):
    """Where some heads (of an MLP: units) lie in the arrays of their block."""
    in_rows: np.ndarray          # of the projection in
    out_columns: np.ndarray      # of the projection out
    others: dict[str, tuple[np.ndarray, ...]]   # of each array that is no projection
    writes: dict[str, tuple[np.ndarray, ...]]   # of what they write: v and z, an MLP's up branch


def _each_head(heads: np.ndarray, size: int, within: np.ndarray) -> np.ndarray:
    """The positions `within` of each of the heads, which have `size` positions each."""
    return (heads[:, None] * size + within).reshape(-1)


def ssm_heads(config: ModelConfig, heads: np.ndarray, d_state: int) -> HeadIndex:
    """`d_state`: how many of the n rows of a head's state: the first, or the first pairs."""
    n, p, pairs = config.d_state, config.head_dim, np.arange(d_state // 2)
    state_rows = (np.concatenate([pairs, n // 2 + pairs]) if config.rotary_steps
                  else np.arange(d_state))
    qkv = np.concatenate([state_rows, n + state_rows, 2 * n + np.arange(p)])
    qkvz = np.concatenate([qkv, 2 * n + p + np.arange(p)])
    gates = config.ssm_heads * 2 * (n + p)    # first row of beta; those of dt follow
    in_rows = [_each_head(heads, 2 * (n + p), qkvz), gates + heads,
               gates + config.ssm_heads + heads]
    if config.rotary_steps:
        in_rows.append(gates + 2 * config.ssm_heads + _each_head(heads, n // 2, pairs))
    taps = np.arange(config.d_conv)
    vectors = ["A_log", "dt_bias", *["beta_bias"] * bool(config.rotary_steps)]
    return HeadIndex(
        np.concatenate(in_rows), _each_head(heads, p, np.arange(p)),
        {"conv1d": np.ix_(taps, heads, qkv), **{name: (heads,) for name in vectors},
         "out_norm": (np.arange(p),)},
        {"in_proj": (_each_head(heads, 2 * (n + p), 2 * n + np.arange(2 * p)),),
         "conv1d": np.ix_(taps, heads, 2 * n + np.arange(p))})


def attention_heads(config: ModelConfig, heads: np.ndarray, d_state: int) -> HeadIndex:
    columns = _each_head(heads, config.head_dim, np.arange(config.head_dim))
    q, k, v = (columns + i * config.d_model for i in range(3))
    return HeadIndex(np.concatenate([q, k, v]), columns, {}, {"qkv_proj": (v,)})


def mlp_units(config: ModelConfig, units: np.ndarray, d_state: int) -> HeadIndex:
    up = units + config.d_ff
    return HeadIndex(np.concatenate([units, up]), units, {}, {"in_proj": (up,)})


@dataclass(frozen=True)
class BlockKind:
    """What differs by kind of block, apart from its mathematics (`OPERATIONS` in model.py) and its
    kernels (`KERNELS` in fast.py)."""
    name: str
    block_fn: Callable[[ModelConfig, str], Block]
    in_proj: str              # name of its projection in
    n_heads_fn: Callable[[ModelConfig], int]
    head_index_fn: Callable[[ModelConfig, np.ndarray, int], HeadIndex]
    state_fn: Callable[[ModelConfig], tuple[StateArray, ...]]


# The mixers by their letter in model.pattern.
BLOCKS = {
    "S": BlockKind("ssm", ssm_block, "in_proj", lambda config: config.ssm_heads, ssm_heads,
                   ssm_state),
    "A": BlockKind("attention", attention_block, "qkv_proj", lambda config: config.attn_heads,
                   attention_heads, attention_state)}
MLP = BlockKind("mlp", mlp_block, "in_proj", lambda config: config.d_ff, mlp_units,
                lambda config: ())
KINDS = {kind.name: kind for kind in (*BLOCKS.values(), MLP)}


def halves(config: ModelConfig, layer: int) -> tuple[tuple[str, BlockKind], ...]:
    """The two blocks of a layer, by the name that their parameters have in it."""
    return ("mixer", BLOCKS[config.layer_kinds[layer]]), ("mlp", MLP)


# Bodies

BODIES = "bodies."   # what the names of their tables begin with
VALUE_LEVELS = 64   # of the return that a brain expects
WORLD_LEVELS = 32   # of an observation that it predicts


class Head(NamedTuple):
    """The columns of one softmax in the logits, and of its target."""
    start: int       # a multiple of LANES
    width: int
    place: int       # first column in `policy`, or the column in `targets` and `fractions`
    is_scalar: int   # 1: the target is a number between two columns; 0: a distribution


class HeadTable(NamedTuple):
    """Heads that share one product."""
    heads: tuple[Head, ...]

    @property
    def rows(self) -> int:
        """Of the table, and columns of the logits, padding included."""
        return sum(round_up(head.width) for head in self.heads)

    @property
    def n_scalars(self) -> int:
        """Columns of `targets`; at least 1, since no buffer is empty."""
        return max(1, sum(head.is_scalar for head in self.heads))

    @property
    def policy_width(self) -> int:
        """Columns of `policy`; at least 1."""
        return max(1, sum(head.width for head in self.heads if not head.is_scalar))


def head_table(scalars: list[int], policies: list[int]) -> HeadTable:
    """Scalar heads of those widths, then policy heads."""
    heads, start = [], 0
    for i, width in enumerate(scalars):
        heads.append(Head(start, width, i, 1))
        start += round_up(width)
    place = 0
    for width in policies:
        heads.append(Head(start, width, place, 0))
        start, place = start + round_up(width), place + width
    return HeadTable(tuple(heads))


@dataclass(frozen=True)
class BodyShape:
    """The sizes of what a body adds to a brain. A control step, a tick, is the sum of some rows of
    the input table; `control` are the heads of the value and the action, `world` those of the next
    observation, on the same vector plus a row for each part of the action."""
    name: str
    input_rows: int
    slots: int                 # rows that a tick sums
    n_observations: int
    choices: tuple[int, ...]   # of each part of an action

    @functools.cached_property
    def control(self) -> HeadTable:
        return head_table([VALUE_LEVELS], list(self.choices))

    @functools.cached_property
    def world(self) -> HeadTable:
        return head_table([WORLD_LEVELS] * self.n_observations, [])

    def blocks(self, config: ModelConfig) -> list[Block]:
        rows = {"input": self.input_rows, "control": self.control.rows,
                "action": sum(self.choices), "world": self.world.rows}
        return [Block("embedding", f"{BODIES}{self.name}.{table}",
                      (Array("", (n, config.d_model)),)) for table, n in rows.items()]


def blocks(config: ModelConfig, bodies: Sequence[BodyShape] = ()) -> list[Block]:
    """All packed tensors of a model, in the order in which they are trained and saved."""
    layers = [kind.block_fn(config, f"layers.{i}.{half}")
              for i in range(config.n_layers) for half, kind in halves(config, i)]
    return [Block("embedding", "embedding", (Array("", (config.vocab_size, config.d_model)),)),
            *layers, Block("norm", "norm_f", (Array("", (config.d_model,)),)),
            *(block for body in bodies for block in body.blocks(config))]


def count_params(config: ModelConfig, bodies: Sequence[BodyShape] = ()) -> int:
    return sum(a.size for block in blocks(config, bodies) for a in block.arrays)


def check_params(config: ModelConfig, named: dict[str, np.ndarray],
                 bodies: Sequence[BodyShape] = ()) -> None:
    """Raises ParameterError unless `named` has exactly the arrays of the model, in float32."""
    shapes = {block.key(a): a.shape for block in blocks(config, bodies) for a in block.arrays}
    for key in named:
        if key not in shapes:
            raise ParameterError(f"{key} is not a parameter of this model: use its own profile")
    for key, shape in shapes.items():
        if key not in named:
            raise ParameterError(f"{key} is missing: the file is incomplete or of another model")
        if named[key].shape != shape:
            raise ParameterError(f"{key} has shape {named[key].shape}, this model needs {shape}")
        if named[key].dtype != np.float32:
            raise ParameterError(f"{key} is {named[key].dtype}, this model needs float32")


def acts(name: str, body: str) -> bool:
    """Whether a packed tensor has a part in the ticks of a body: all but the bytes' embedding and
    the tables of other bodies."""
    if name.startswith(BODIES):
        return name.startswith(f"{BODIES}{body}.")
    return name != "embedding"


def moments(all_blocks: list[Block], config: TrainConfig) -> tuple[list[Block], list[Block]]:
    """The blocks with the arrays that have a first moment, and with those that have a second: Muon
    updates matrices by the first alone; frozen matrices have neither."""
    if config.trainable == "tables":
        tables = [block if block.name.startswith(BODIES) else replace(block, arrays=())
                  for block in all_blocks]
        return tables, tables
    vectors = [replace(block, arrays=tuple(a for a in block.arrays if not a.matrices))
               for block in all_blocks]
    return (vectors if config.trainable == "no-matrices" else all_blocks,
            all_blocks if (config.trainable, config.optimizer) == ("all", "adamw") else vectors)
