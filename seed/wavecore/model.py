"""WaveCore: a pre-norm residual stack over bytes with a tied head, on tinygrad tensors.

    x = embedding[tokens];  for each layer: x = x + mixer(norm(x)), x = x + mlp(norm(x))
    logits = norm_f(x) embedding^T

Glossary of shapes, used in every file: b batch, t time, d d_model, e d_inner, f d_ff, h heads,
n d_state, p head_dim, w sliding_window, v vocab_size.
"""
import functools
import typing
from typing import NamedTuple

import numpy as np
from tinygrad import Tensor

from seed.config import ModelConfig
from seed.rng import Stream, stream
from seed.errors import ParameterError
from seed.wavecore import fast, layout, reference
from seed.wavecore.tinygrad_seam import buffer_view, copy_into, install


MIXERS = {"S": "ssm", "A": "attention"}
FEW_ROWS = 32   # b * t up to which a team of threads costs more than it brings


class SSMState(NamedTuple):
    """What an SSM layer carries: the convolution's last inputs and the recurrent state."""
    conv: Tensor    # (b, d_conv-1, h, 2n+p), before the convolution
    ssm: Tensor     # (b, h, n, p)


class AttnState(NamedTuple):
    """What an attention layer carries: the last w-1 keys (not rotated) and values."""
    k: Tensor       # (b, w-1, d)
    v: Tensor       # (b, w-1, d)
    length: Tensor  # (b,) int32, how many of them, counted from the end, are valid


State = list[SSMState | AttnState]


def init_params(config: ModelConfig, seed: int) -> dict[str, np.ndarray]:
    """Initial named arrays, float32; a pure function of (config, seed).

    Matrices are uniform in +-1/sqrt(fan_in). A head starts by forgetting softplus(dt_bias) of its
    state at a byte; dt_bias is spread over [dt_bias_min, dt_bias_max], and A is 1.
    """
    rng = stream(seed, Stream.INIT, 0)
    named = {}
    for block in layout.blocks(config):
        for array in block.arrays:
            named[block.key(array)] = _init(config, block.kind, array, rng).astype(np.float32)
    return named


def _init(config: ModelConfig, kind: str, array: layout.Array, rng) -> np.ndarray:
    if kind == "embedding":
        return rng.standard_normal(array.shape) * 0.05
    if array.name in ("norm", "out_norm", ""):
        return np.ones(array.shape)
    if array.name == "A_log":
        return np.zeros(array.shape)
    if array.name == "dt_bias":
        return np.linspace(config.dt_bias_min, config.dt_bias_max, array.size)
    fan_in = config.d_conv if array.name == "conv1d" else array.shape[-1]
    return rng.uniform(-1, 1, array.shape) / np.sqrt(fan_in)


class WaveCore:
    """The model. `kernels=False` runs the plain operations of reference.py instead."""

    def __init__(self, config: ModelConfig, params: dict[str, np.ndarray], threads: int = 1,
                 kernels: bool = True):
        install()   # without the patches a kernel may jump to a wrong place
        self.config, self.threads, self.kernels = config, threads, kernels
        self.blocks = layout.blocks(config)
        self.packed: dict[str, Tensor] = {
            block.name: Tensor(np.zeros(block.size, np.float32)).realize() for block in self.blocks}
        self.load_state_dict(params)

    def state_dict(self) -> dict[str, np.ndarray]:
        """Named float32 arrays: the keys and shapes of a checkpoint.

        They are the weights themselves: copy what must outlast the next step.
        """
        return {key: array for block in self.blocks
                for key, array in block.unpack(buffer_view(self.packed[block.name])).items()}

    def load_state_dict(self, named: dict[str, np.ndarray]) -> None:
        """Takes named arrays in place. Raises ParameterError, before any change, if they differ."""
        check_names(self.blocks, named)
        for block in self.blocks:
            copy_into(self.packed[block.name], block.pack(named))

    def init_state(self, b: int) -> State:
        """The state before the first byte."""
        return [self._init_state(kind, b) for kind in self.config.layer_kinds]

    def _init_state(self, kind: str, b: int) -> SSMState | AttnState:
        c = self.config

        def zeros(*shape: int, dtype: type = np.float32) -> Tensor:
            return Tensor(np.zeros(shape, dtype)).realize()
        if kind == "S":
            return SSMState(zeros(b, c.d_conv - 1, c.ssm_heads, 2 * c.d_state + c.head_dim),
                            zeros(b, c.ssm_heads, c.d_state, c.head_dim))
        return AttnState(zeros(b, c.sliding_window - 1, c.d_model),
                         zeros(b, c.sliding_window - 1, c.d_model), zeros(b, dtype=np.int32))

    def __call__(self, tokens: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """tokens (b, t) int32 to logits (b, t, v) and the state after them."""
        x, state = self._stack(tokens, state)
        gain, table = self._head_weights()
        if not self.kernels:
            return reference.logits(self.config, x, gain, table), state
        b, t = _shape(tokens)
        return self._bound("head", b, t).logits(x, gain, table).reshape(b, t, -1), state

    def loss(self, tokens: Tensor, targets: Tensor, inv_count: Tensor, state: State | None = None,
             soft: reference.SoftTargets | None = None) -> tuple[Tensor, State]:
        """Scalar cross-entropy over targets >= 0, summed and multiplied by inv_count (1,).

        tokens, targets (b, t) int32; `soft` is what a teacher expects. Gradients stop at the
        returned state.
        """
        x, state = self._stack(tokens, state)
        gain, table = self._head_weights()
        if not self.kernels:
            scores = reference.logits(self.config, x, gain, table)
            return reference.cross_entropy(scores, targets, inv_count, soft), state
        loss = self._bound("head", *_shape(tokens)).loss
        return loss(x, gain, table, targets.reshape(-1), inv_count, soft), state

    def block(self, i: int, part: str, x: Tensor) -> Tensor:
        """x (b, t, d) with what the "mixer" or the "mlp" of layer i adds, from the first byte on.
        """
        b, t = _shape(x[..., 0])
        rows = x.reshape(b * t, -1) if self.kernels else x
        if part == "mlp":
            return self._apply("mlp", f"layers.{i}.mlp", b, t, rows).reshape(x.shape)
        kind = self.config.layer_kinds[i]
        return self._apply(MIXERS[kind], f"layers.{i}.mixer", b, t, rows,
                           *self._init_state(kind, b))[0].reshape(x.shape)

    def _head_weights(self) -> tuple[Tensor, Tensor]:
        shape = (self.config.vocab_size, self.config.d_model)
        return self.packed["norm_f"], self.packed["embedding"].reshape(shape)

    def _stack(self, tokens: Tensor, state: State | None) -> tuple[Tensor, State]:
        """Embedding and all layers. With kernels x is (b*t, d), without (b, t, d)."""
        b, t = _shape(tokens)
        state = self.init_state(b) if state is None else state
        table, out = self._head_weights()[1], []
        x = self._bound("embedding", b, t)(tokens.reshape(-1), table) if self.kernels \
            else table[tokens]
        for i, (kind, before) in enumerate(zip(self.config.layer_kinds, state, strict=True)):
            x, *after = self._apply(MIXERS[kind], f"layers.{i}.mixer", b, t, x, *before)
            out.append((SSMState if kind == "S" else AttnState)(*(s.detach() for s in after)))
            x = self._apply("mlp", f"layers.{i}.mlp", b, t, x)
        return x, out

    def _apply(self, kind: str, name: str, b: int, t: int, x: Tensor, *state: Tensor):
        packed = self.packed[name]
        if self.kernels:
            return self._bound(kind, b, t)(x, packed, *state)
        block = next(block for block in self.blocks if block.name == name)
        w = {a.name: packed[at:at + a.size].reshape(a.shape)
             for a, at in zip(block.arrays, block.offsets().values())}
        return getattr(reference, kind)(self.config, x, w, *state)

    def _bound(self, kind: str, b: int, t: int) -> typing.Any:
        return kernels_of(self.config, kind, b, t, self.threads if b * t > FEW_ROWS else 1)


@functools.cache
def kernels_of(config: ModelConfig, kind: str, b: int, t: int, threads: int) -> typing.Any:
    """The kernels of a kind for one shape: all blocks of the kind share them."""
    make = {"ssm": fast.Ssm, "attention": fast.Attention, "mlp": fast.Mlp}
    if kind in make:
        block = getattr(layout, f"{kind}_block")(config, kind)
        return make[kind](config, block, b, t, threads)
    return (fast.Embedding if kind == "embedding" else fast.Head)(config, b, t, threads)


def _shape(tokens: Tensor) -> tuple[int, int]:
    b, t = tokens.shape
    return typing.cast(int, b), typing.cast(int, t)


def check_names(blocks: list[layout.Block], named: dict[str, np.ndarray]) -> None:
    """Raises ParameterError unless `named` has exactly the arrays of the blocks, in float32."""
    shapes = {block.key(a): a.shape for block in blocks for a in block.arrays}
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
