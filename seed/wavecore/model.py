"""WaveCore: bytes in, logits of the next byte out. A pre-norm residual stack with a tied head.

    tokens -> embedding -> x           config.pattern gives each layer's mixer by its letter:
    every layer:                         S  ssm_mixer: a gated delta rule (linear recurrence)
        x = x + mixer(rms_norm(x))       A  sliding_window_attention
        x = x + mlp(rms_norm(x))       the mlp is swiglu_mlp; norm and sum are in each function
    logits = rms_norm(x) embedding^T

The recurrence of an S layer, for every head and byte t, with a state S of (n, p):

    S_t = decay_t (I - beta_t k_t k_t^T) S_(t-1) + beta_t k_t v_t^T        y_t = S_t^T q_t
    out_t = rms_norm(y_t) silu(z_t)
    decay_t = exp(-softplus(dt_t + dt_bias) exp(A_log))    beta_t = beta_max rectified_sigmoid(b_t)

where q, k, v, z, b and dt are projections of x; q, k and v pass a short causal convolution over
time and silu, and q and k have length 1. beta in 0..2 lets a step keep, overwrite or reflect what
is stored under k (Grazzi et al. 2411.12537).

With config.rotary_steps the state turns before each step, S_(t-1) becomes R_t S_(t-1) above, so
that it can count modulo small numbers. R_t turns rows i and i + n/2 by an angle each:

    turn_t = whole(TURN_SCALE r_t)    whole: rounded to 1/rotary_steps, so that nothing drifts
    phase_t = phase_(t-1) + turn_t    modulo 1; carried in whole parts of 1/rotary_steps

where r is a projection of x. Turns of one plane commute, so S is held in a frame that turns along:
q and k are turned back by the phase, and the equation is that without R. This is a rotary position
that depends on the data (Mamba-3, 2603.15569). b gets beta_bias, so that some heads write rarely.

    shapes   b batch   t time   d d_model   e d_inner = h*p   f d_ff   h heads   n d_state
             p head_dim   w sliding_window   v vocab_size

    here           Gated DeltaNet (2412.06464)    Mamba-2 (2405.21060)
    state (n, p)   S_t^T                          h_t
    q, k, v        q_t, k_t, v_t                  C_t, B_t, x_t
    decay          alpha_t                        a_t = exp(Delta_t A)
    beta           beta_t                         Delta_t, where it scales the input
    dt, A_log      -                              Delta_t = softplus(dt + dt_bias), A = -exp(A_log)
    z              output gate                    z

    initial values (init_params)
    embedding                                normal, 0.05
    norm, out_norm, norm_f                   1
    in_proj, qkv_proj, out_proj, conv1d      uniform in +-1/sqrt(fan_in)
    A_log                                    0: A is -1
    dt_bias                                  evenly over the heads, dt_bias_min..dt_bias_max: a head
                                             starts by forgetting softplus(dt_bias) a byte
    beta_bias (where states turn)            evenly, beta_bias_min..0: a head that forgets little
                                             starts by writing little
    rows of r in in_proj                     uniform in +-TURN_INIT/sqrt(fan_in)

The operations below are the reference implementation, on any tinygrad device. A model runs the C
kernels of fast.py instead, unless it is made with `reference=True`; tests hold that both agree,
gradients included. The loss is in loss.py.
"""
import functools
import typing
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from seed.config import L2_EPS, SIGMOID_STRETCH, ModelConfig
from seed.rng import Stream, stream
from seed.wavecore import layout
from seed.wavecore.loss import SoftTargets, cross_entropy
from seed.wavecore.rotary import phases, rope_table, rotate
from seed.wavecore.tinygrad_seam import (Arena, Tensor, buffer_view, copy_into, install,
                                         zeros)

if TYPE_CHECKING:
    from seed.wavecore.stepping import Stepper

TURN_INIT = 0.03           # of the initial rows of in_proj that turn states
HIDDEN_SCORE = -1e30       # of a slot that a query does not see
MAX_ONE_THREAD_ROWS = 32   # b * t up to which a team of threads costs more than it brings
Weights = dict[str, Tensor]   # of a block, by the names in layout.py


class SSMState(NamedTuple):
    """What an SSM layer carries: the convolution's last inputs and the recurrent state."""
    conv: Tensor    # (b, d_conv-1, h, 2n+p), before the convolution
    ssm: Tensor     # (b, h, n, p)


class RotarySSMState(NamedTuple):
    """The same where states turn."""
    conv: Tensor
    ssm: Tensor     # in a frame that turns by the phase
    phase: Tensor   # (b, h, n/2) int32, in whole parts of a turn


class AttnState(NamedTuple):
    """What an attention layer carries: the last w-1 keys (not rotated) and values."""
    k: Tensor       # (b, w-1, d)
    v: Tensor       # (b, w-1, d)
    length: Tensor  # (b,) int32, how many of them, counted from the end, are valid


LayerState = SSMState | RotarySSMState | AttnState
State = list[LayerState]   # of every layer


def rms_norm(x: Tensor, gain: Tensor, eps: float) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * gain over the last axis (Zhang & Sennrich 1910.07467)."""
    return x * (x.square().mean(-1, keepdim=True) + eps).rsqrt() * gain


def l2_normalize(x: Tensor) -> Tensor:
    """x with length 1 over the last axis."""
    return x * (x.square().sum(-1, keepdim=True) + L2_EPS).rsqrt()


def rectified_sigmoid(x: Tensor) -> Tensor:
    """A sigmoid stretched about 1/2 and clipped to 0..1 (Louizos et al. 1712.01312). Its gradient
    ignores the clip (straight through, Bengio et al. 1308.3432)."""
    stretched = x.sigmoid() * SIGMOID_STRETCH - (SIGMOID_STRETCH - 1) / 2
    return stretched + (stretched.clip(0, 1) - stretched).detach()


def gated_delta_rule(q: Tensor, k: Tensor, v: Tensor, beta: Tensor, decay: Tensor, state: Tensor,
                     transition: str = "delta") -> tuple[Tensor, Tensor]:
    """The recurrence above. q, k (b, t, h, n), v (b, t, h, p), beta and decay (b, t, h), state S
    (b, h, n, p). Returns y (b, t, h, p) and the last state.

    With transition "diagonal" nothing is erased: S_t = decay_t S_(t-1) + beta_t k_t v_t^T.
    """
    erase, ys = float(transition == "delta"), []
    for i in range(typing.cast(int, q.shape[1])):
        a, key = decay[:, i, :, None], k[:, i, :, :, None]              # (b, h, 1), (b, h, n, 1)
        stored = (state * key).sum(2)                                   # (b, h, p), S^T k
        u = beta[:, i, :, None] * (v[:, i] - erase * a * stored)       # (b, h, p)
        state = a[..., None] * state + key * u[:, :, None]              # (b, h, n, p)
        ys.append((state * q[:, i, :, :, None]).sum(2))                 # (b, h, p), S^T q
    return Tensor.stack(*ys, dim=1), state


def ssm_mixer(config: ModelConfig, x: Tensor, w: Weights, conv_in: Tensor, ssm_in: Tensor,
              phase_in: Tensor | None = None) -> tuple[Tensor, ...]:
    """x (b, t, d) plus the gated delta rule's output; conv_in (b, d_conv-1, h, 2n+p), ssm_in
    (b, h, n, p) and, where states turn, phase_in (b, h, n/2) are the carried state. Returns
    y (b, t, d) and the state after it."""
    b, t, _ = x.shape
    h, n, p, past = config.ssm_heads, config.d_state, config.head_dim, config.d_conv - 1
    proj = rms_norm(x, w["norm"], config.stream_eps) @ w["in_proj"].T   # (b, t, rows of in_proj)
    split = h * (2 * n + 2 * p)
    qkvz = proj[..., :split].reshape(b, t, h, 2 * n + 2 * p)
    z = qkvz[..., 2 * n + p:]                                           # (b, t, h, p)
    b_bias = w["beta_bias"] if config.rotary_steps else 0.0
    beta = rectified_sigmoid(proj[..., split:split + h] + b_bias) * config.beta_max   # (b, t, h)
    dt = (proj[..., split + h:split + 2 * h] + w["dt_bias"]).softplus()    # (b, t, h)
    decay = (-dt * w["A_log"].exp()).exp()                              # (b, t, h)
    raw = conv_in.cat(qkvz[..., :2 * n + p], dim=1)                     # (b, past+t, h, 2n+p)
    taps = [raw[:, i:i + t] * w["conv1d"][i] for i in range(config.d_conv)]
    qkv = Tensor.usum(*taps).silu()                                     # (b, t, h, 2n+p)
    q, k, v = l2_normalize(qkv[..., :n]), l2_normalize(qkv[..., n:2 * n]), qkv[..., 2 * n:]
    carried: tuple[Tensor, ...] = ()
    if phase_in is not None:
        r = proj[..., split + 2 * h:].reshape(b, t, h, n // 2)
        phase, phase_out = phases(config, r, phase_in)
        angle, carried = phase * (-2 * np.pi / config.rotary_steps), (phase_out,)
        q, k = (rotate(z, angle.cos(), angle.sin()) for z in (q, k))
    y, ssm_out = gated_delta_rule(q, k, v, beta, decay, ssm_in, config.transition)  # (b, t, h, p)
    out = rms_norm(y, w["out_norm"], config.norm_eps) * z.silu()
    y = x + out.reshape(b, t, h * p) @ w["out_proj"].T
    return y, raw[:, t:t + past], ssm_out, *carried


def sliding_window_attention(config: ModelConfig, x: Tensor, w: Weights, k_in: Tensor, v_in: Tensor,
                             length: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x (b, t, d) plus attention to the last w bytes; k_in and v_in (b, w-1, d) are carried, the
    last `length` (b,) of them valid. Returns y (b, t, d), k_out, v_out, length_out.

    Carried keys are not rotated: slot numbers serve as positions.
    """
    b, t, d = typing.cast(tuple[int, ...], x.shape)
    h, p, past = config.attn_heads, config.head_dim, config.sliding_window - 1
    qkv = rms_norm(x, w["norm"], config.stream_eps) @ w["qkv_proj"].T   # (b, t, 3d)
    k, v = k_in.cat(qkv[..., d:2 * d], dim=1), v_in.cat(qkv[..., 2 * d:], dim=1)  # (b, past+t, d)
    table = Tensor(rope_table(config, t))[:, None]                      # (past+t, 1, p)
    cos, sin = table[..., :p // 2], table[..., p // 2:]
    q_rotated = rotate(qkv[..., :d].reshape(b, t, h, p), cos[past:], sin[past:]).transpose(1, 2)
    k_rotated = rotate(k.reshape(b, past + t, h, p), cos, sin).permute(0, 2, 3, 1)
    scores = q_rotated @ k_rotated * p ** -0.5                          # (b, h, t, past+t)
    slot, query = Tensor.arange(past + t), past + Tensor.arange(t)[:, None]
    seen = (slot <= query) & (slot > query - config.sliding_window)     # (t, past+t)
    seen = seen[None] & (slot >= past - length[:, None])[:, None]       # (b, t, past+t)
    prob = seen[:, None].where(scores, HIDDEN_SCORE).softmax(-1)
    out = (prob @ v.reshape(b, -1, h, p).transpose(1, 2)).transpose(1, 2).reshape(b, t, d)
    return x + out @ w["out_proj"].T, k[:, t:], v[:, t:], (length + t).minimum(past)


def swiglu_mlp(config: ModelConfig, x: Tensor, w: Weights) -> Tensor:
    """x (b, t, d) plus SwiGLU (Shazeer 2002.05202)."""
    hidden = rms_norm(x, w["norm"], config.stream_eps) @ w["in_proj"].T   # (b, t, 2f)
    gate, up = hidden[..., :config.d_ff], hidden[..., config.d_ff:]
    return x + (gate.silu() * up) @ w["out_proj"].T


def tied_head(config: ModelConfig, x: Tensor, gain: Tensor, table: Tensor) -> Tensor:
    """Logits (b, t, v) of x (b, t, d) by the embedding table (v, d)."""
    return rms_norm(x, gain, config.stream_eps) @ table.T


# The mathematics of each kind of block; layout.BLOCKS and fast.KERNELS hold the rest.
OPERATIONS: dict[str, Callable[..., Any]] = {
    "ssm": ssm_mixer, "attention": sliding_window_attention, "mlp": swiglu_mlp}
# By what a layer carries (layout.BlockKind.state_fn).
STATES: dict[tuple[str, ...], type[LayerState]] = {
    kind._fields: kind for kind in (SSMState, RotarySSMState, AttnState)}


def init_params(config: ModelConfig, seed: int) -> dict[str, np.ndarray]:
    """Initial named arrays, float32; a pure function of (config, seed)."""
    rng = stream(seed, Stream.INIT, 0)
    return {block.key(array): _init(config, block.kind, array, rng).astype(np.float32)
            for block in layout.blocks(config) for array in block.arrays}


def _init(config: ModelConfig, kind: str, array: layout.Array,
          rng: np.random.Generator) -> np.ndarray:
    if kind == "embedding":
        return rng.standard_normal(array.shape) * 0.05
    if array.name in ("norm", "out_norm", ""):
        return np.ones(array.shape)
    if array.name == "A_log":
        return np.zeros(array.shape)
    if array.name == "dt_bias":   # a head starts by forgetting softplus(dt_bias) a byte
        return np.linspace(config.dt_bias_min, config.dt_bias_max, array.size)
    if array.name == "beta_bias":
        return np.linspace(config.beta_bias_min, 0.0, array.size)
    fan_in = config.d_conv if array.name == "conv1d" else array.shape[-1]
    values = rng.uniform(-1, 1, array.shape) / np.sqrt(fan_in)
    turns = config.ssm_heads * layout.state_pairs(config) if kind == "ssm" else 0
    if array.name == "in_proj" and turns:
        values[-turns:] *= TURN_INIT
    return values


class WaveCore:
    """The model. `reference`: by the operations above instead of the kernels."""

    def __init__(self, config: ModelConfig, params: dict[str, np.ndarray], threads: int = 1,
                 reference: bool = False, bodies: Sequence[layout.BodyShape] = ()):
        install()   # without its patches a kernel may jump to a wrong place
        self.config, self.threads, self.reference = config, threads, reference
        self.bodies = tuple(bodies)
        self.blocks = layout.blocks(config, self.bodies)
        self.packed: dict[str, Tensor] = {
            block.name: zeros((block.size,)) for block in self.blocks}
        self._empty_states: dict[int, State] = {}   # by the rows of a batch
        # The last MLP: what it saves is there just when most memory is in use.
        self._unsaved = f"layers.{config.n_layers - 1}.mlp"
        self.arena = Arena()   # of all graphs: steps of training, evaluations, steps of acting
        self.changes = zeros((1,), np.int32)   # of the weights; each optimizer step adds one too
        self._changes = buffer_view(self.changes)
        self.load_state_dict(params)

    @property
    def version(self) -> int:
        """Another one whenever the weights have changed."""
        return int(self._changes[0])

    @functools.cached_property
    def stepper(self) -> "Stepper":
        """For StepGraph."""
        from seed.wavecore.stepping import Stepper
        return Stepper(self)

    def state_dict(self) -> dict[str, np.ndarray]:
        """Named float32 arrays of a checkpoint: the weights themselves, until the next step. They
        are changed by `load_state_dict` and `set_rows` alone."""
        named: dict[str, np.ndarray] = {}
        for block in self.blocks:
            flat = buffer_view(self.packed[block.name])
            flat.flags.writeable = False
            named |= block.unpack(flat)
        return named

    def load_state_dict(self, named: dict[str, np.ndarray]) -> None:
        """Takes named arrays in place. Raises ParameterError, before any change, if they differ."""
        layout.check_params(self.config, named, self.bodies)
        for block in self.blocks:
            copy_into(self.packed[block.name], block.pack(named))
        self._changes += 1

    def set_rows(self, table: str, rows: slice, values: np.ndarray | float) -> None:
        """Changes rows of a table."""
        flat = buffer_view(self.packed[table])
        flat.reshape(-1, self.config.d_model)[rows] = values
        self._changes += 1

    def init_state(self, b: int) -> State:
        """The state before the first byte."""
        return [self._init_state(layout.BLOCKS[letter], b) for letter in self.config.layer_kinds]

    def empty_state(self, b: int) -> State:
        """As init_state, for passes that do not write it: all layers of a kind share their part."""
        if b not in self._empty_states:
            by_letter = {letter: self._init_state(layout.BLOCKS[letter], b)
                         for letter in dict.fromkeys(self.config.layer_kinds)}
            self._empty_states[b] = [by_letter[letter] for letter in self.config.layer_kinds]
        return self._empty_states[b]

    def _init_state(self, kind: layout.BlockKind, b: int) -> LayerState:
        arrays = kind.state_fn(self.config)
        return STATES[tuple(array.name for array in arrays)](
            *(zeros((b, *array.shape), array.dtype) for array in arrays))

    def __call__(self, tokens: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """tokens (b, t) int32 to logits (b, t, v) and the state after them."""
        x, state = self._stack(tokens, state)
        gain, table = self._head_weights()
        if self.reference:
            return tied_head(self.config, x, gain, table), state
        b, t = _shape(tokens)
        return self.kernels("head", b, t).logits(x, gain, table).reshape(b, t, -1), state

    def loss(self, tokens: Tensor, targets: Tensor, inv_count: Tensor, state: State | None = None,
             soft: SoftTargets | None = None) -> tuple[Tensor, State]:
        """The scalar `cross_entropy` of loss.py and the state; tokens, targets (b, t) int32.

        Gradients stop at the returned state.
        """
        if self.reference:
            logits, state = self(tokens, state)
            return cross_entropy(logits, targets, inv_count, soft), state
        x, state = self._stack(tokens, state)
        loss_fn = self.kernels("head", *_shape(tokens)).loss
        return loss_fn(x, *self._head_weights(), targets.reshape(-1), inv_count, soft), state

    def gradients(self, loss: Tensor, is_used_fn: Callable[[str], bool]) -> list[Tensor]:
        """Of all packed tensors, in order; zeros for those that have no part in the loss."""
        names = [name for name in self.packed if is_used_fn(name)]
        known = dict(zip(names, loss.gradient(*(self.packed[name] for name in names))))
        return [known[name] if name in known else zeros((block.size,))
                for name, block in zip(self.packed, self.blocks)]

    def sublayer(self, layer: int, half: str, x: Tensor) -> Tensor:
        """x (b, t, d) after the "mixer" or the "mlp" of a layer, from the initial state."""
        b, t = _shape(x[..., 0])
        kind = dict(layout.halves(self.config, layer))[half]
        state = self._init_state(kind, b) if half == "mixer" else ()
        rows = x if self.reference else x.reshape(b * t, -1)
        return self._apply(kind, f"layers.{layer}.{half}", b, t, rows, *state)[0].reshape(x.shape)

    def _head_weights(self) -> tuple[Tensor, Tensor]:
        shape = (self.config.vocab_size, self.config.d_model)
        return self.packed["norm_f"], self.packed["embedding"].reshape(shape)

    def _stack(self, tokens: Tensor, state: State | None) -> tuple[Tensor, State]:
        """Embedding and all layers; x as in `layers`."""
        b, t = _shape(tokens)
        state = self.empty_state(b) if state is None else state
        return self.layers(self.embed(tokens), state, b, t)

    def embed(self, tokens: Tensor) -> Tensor:
        """Rows of tokens (b, t), as `layers` takes them."""
        table = self._head_weights()[1]
        if self.reference:
            return table[tokens]
        return self.kernels("embedding", *_shape(tokens))(tokens.reshape(-1), table)

    def layers(self, x: Tensor, state: State, b: int, t: int) -> tuple[Tensor, State]:
        """All layers on x, which is (b, t, d) for the reference, else (b*t, d)."""
        after: State = []
        for i, (letter, before) in enumerate(zip(self.config.layer_kinds, state, strict=True)):
            kind = layout.BLOCKS[letter]
            x, *carried = self._apply(kind, f"layers.{i}.mixer", b, t, x, *before)
            after.append(type(before)(*(s.detach() for s in carried)))
            x, = self._apply(layout.MLP, f"layers.{i}.mlp", b, t, x)
        return x, after

    def _apply(self, kind: layout.BlockKind, name: str, b: int, t: int, x: Tensor,
               *state: Tensor) -> tuple[Tensor, ...]:
        """One block on x and the state that it carries, if any."""
        packed = self.packed[name]
        if not self.reference:
            kernels = self.kernels(kind.name, b, t)
            if name == self._unsaved:
                return kernels.unsaved(x, packed)
            return kernels(x, packed, *state)
        block = kind.block_fn(self.config, name)
        w = {a.name: packed[at:at + a.size].reshape(a.shape)
             for a, at in zip(block.arrays, block.offsets().values())}
        results = OPERATIONS[kind.name](self.config, x, w, *state)
        return results if isinstance(results, tuple) else (results,)

    def kernels(self, kind: str, b: int, t: int) -> Any:
        """Of a kind of block, for (b, t) tokens."""
        from seed.wavecore import fast   # which imports this file
        threads = self.threads if b * t > MAX_ONE_THREAD_ROWS else 1
        return fast.kernels_of(self.config, kind, b, t, threads)


def _shape(tokens: Tensor) -> tuple[int, int]:
    b, t = tokens.shape
    return typing.cast(int, b), typing.cast(int, t)
