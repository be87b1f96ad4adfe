"""Blocks and optimizer in plain tinygrad operations: what the kernels are tested against.

Dimension letters as in `model.py`. Every function takes the block's named arrays (`layout.py`) and
runs on any tinygrad device. The recurrence is a Python loop over time: slow, and readable.
"""
import typing
from typing import NamedTuple

import numpy as np
from tinygrad import Tensor

from seed.config import ModelConfig, TrainConfig
from seed.wavecore.fast_optim import NS_COEFFICIENTS, NS_EPS, NS_STEPS

UNIT_EPS = 1e-6
STRETCH = 1.1  # of a sigmoid that reaches 0 and 1
MIN_NORMAL = 1.17549435e-38   # float32
HIDDEN_SCORE = -1e30   # of a slot that a query does not see


def rms_norm(x: Tensor, gain: Tensor, eps: float) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * gain over the last axis (Zhang & Sennrich 2019)."""
    return x * (x.square().mean(-1, keepdim=True) + eps).rsqrt() * gain


def silu(x: Tensor) -> Tensor:
    return x * x.sigmoid()


def softplus(x: Tensor) -> Tensor:
    return x.maximum(0) + ((-x.abs()).exp() + 1).log()


def rectified_sigmoid(x: Tensor) -> Tensor:
    """Sigmoid stretched about 1/2 and cut to 0..1, so that it reaches both.

    Its derivative is that of the stretched one everywhere (straight through the cut, Bengio et al.
    1308.3432): what is cut still learns.
    """
    stretched = x.sigmoid() * STRETCH - (STRETCH - 1) / 2
    return stretched + (stretched.clip(0, 1) - stretched).detach()


def unit(x: Tensor) -> Tensor:
    return x * (x.square().sum(-1, keepdim=True) + UNIT_EPS).rsqrt()


def ssm(config: ModelConfig, x: Tensor, w: dict[str, Tensor], conv_in: Tensor,
        ssm_in: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """SSM mixer with residual: x (b, t, d), conv_in (b, d_conv-1, h, 2n+p), ssm_in (b, h, n, p).

    Returns y (b, t, d), conv_out, ssm_out. S_t = a_t S_{t-1} (I - beta_t k_t k_t^T)
    + beta_t v_t k_t^T (Yang et al. 2412.06464, eq. 10), held transposed as (n, p).
    """
    b, t, _ = x.shape
    h, n, p, past = config.ssm_heads, config.d_state, config.head_dim, config.d_conv - 1
    proj = rms_norm(x, w["norm"], config.stream_eps) @ w["in_proj"].T     # (b, t, h*(2n+2p) + 2h)
    split = h * (2 * n + 2 * p)
    qkvz = proj[..., :split].reshape(b, t, h, 2 * n + 2 * p)
    beta = rectified_sigmoid(proj[..., split:split + h]) * config.beta_max       # (b, t, h)
    dt = softplus(proj[..., split + h:] + w["dt_bias"])                 # (b, t, h)
    a = (-dt * w["A_log"].exp()).exp()
    raw = conv_in.cat(qkvz[..., :2 * n + p], dim=1)                     # (b, past+t, h, 2n+p)
    qkv = silu(sum((raw[:, i:i + t] * w["conv1d"][i] for i in range(config.d_conv)),
                   start=Tensor(0.0)))
    q, k, v = unit(qkv[..., :n]), unit(qkv[..., n:2 * n]), qkv[..., 2 * n:]
    delta = 1.0 if config.transition == "delta" else 0.0
    S, ys = ssm_in, []
    for i in range(t):
        ai, ki = a[:, i, :, None], k[:, i, :, :, None]                  # (b, h, 1), (b, h, n, 1)
        Sk = (S * ki).sum(2)                                            # (b, h, p)
        u = beta[:, i, :, None] * (v[:, i] - delta * ai * Sk)           # (b, h, p)
        S = ai[..., None] * S + ki * u[:, :, None]                      # (b, h, n, p)
        ys.append((S * q[:, i, :, :, None]).sum(2))
    y = Tensor.stack(*ys, dim=1)                                        # (b, t, h, p)
    out = rms_norm(y, w["out_norm"], config.norm_eps) * silu(qkvz[..., 2 * n + p:])
    return x + out.reshape(b, t, h * p) @ w["out_proj"].T, raw[:, t:t + past], S


def rope_table(config: ModelConfig, t: int) -> np.ndarray:
    """(w-1+t, p) float32: cosines, then sines, of slot * theta^(-2i/p) (Su et al. 2104.09864)."""
    half = config.head_dim // 2
    frequency = config.rope_theta ** (-np.arange(half) / half)
    angle = np.arange(config.sliding_window - 1 + t)[:, None] * frequency
    return np.concatenate([np.cos(angle), np.sin(angle)], 1).astype(np.float32)


def attention(config: ModelConfig, x: Tensor, w: dict[str, Tensor], k_in: Tensor, v_in: Tensor,
              length: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Sliding-window attention with residual: x (b, t, d), k_in and v_in (b, w-1, d), length (b,).

    The last `length` carried keys are valid; they are not rotated, and slot numbers serve as
    positions. Returns y (b, t, d), k_out, v_out, length_out.
    """
    b, t, d = typing.cast(tuple[int, ...], x.shape)
    h, p, past = config.attn_heads, config.head_dim, config.sliding_window - 1
    qkv = rms_norm(x, w["norm"], config.stream_eps) @ w["qkv_proj"].T     # (b, t, 3d)
    k, v = k_in.cat(qkv[..., d:2 * d], dim=1), v_in.cat(qkv[..., 2 * d:], dim=1)  # (b, past+t, d)
    table = Tensor(rope_table(config, t))
    cos, sin = table[:, None, :p // 2], table[:, None, p // 2:]         # (past+t, 1, p/2)

    def rotate(z: Tensor, first: int) -> Tensor:
        z = z.reshape(b, -1, h, p)
        low, high, c, s = z[..., :p // 2], z[..., p // 2:], cos[first:], sin[first:]
        return (low * c - high * s).cat(high * c + low * s, dim=-1)     # (b, slots, h, p)

    q_rot = rotate(qkv[..., :d], past).transpose(1, 2)                  # (b, h, t, p)
    scores = q_rot @ rotate(k, 0).permute(0, 2, 3, 1) * p ** -0.5       # (b, h, t, past+t)
    slot, query = Tensor.arange(past + t), past + Tensor.arange(t)[:, None]
    seen = (slot <= query) & (slot > query - config.sliding_window)     # (t, past+t)
    seen = seen[None] & (slot >= past - length[:, None])[:, None]       # (b, t, past+t)
    prob = seen[:, None].where(scores, HIDDEN_SCORE).softmax(-1)
    out = (prob @ v.reshape(b, -1, h, p).transpose(1, 2)).transpose(1, 2).reshape(b, t, d)
    return (x + out @ w["out_proj"].T, k[:, t:], v[:, t:], (length + t).minimum(past))


def mlp(config: ModelConfig, x: Tensor, w: dict[str, Tensor]) -> Tensor:
    """SwiGLU MLP with residual (Shazeer 2002.05202): x (b, t, d) to (b, t, d)."""
    hidden = rms_norm(x, w["norm"], config.stream_eps) @ w["in_proj"].T   # (b, t, 2f)
    gate, up = hidden[..., :config.d_ff], hidden[..., config.d_ff:]
    return x + (silu(gate) * up) @ w["out_proj"].T


def logits(config: ModelConfig, x: Tensor, gain: Tensor, table: Tensor) -> Tensor:
    """Final norm and tied head: x (b, t, d) to (b, t, v)."""
    return rms_norm(x, gain, config.stream_eps) @ table.T


class SoftTargets(NamedTuple):
    """What a teacher expects of each byte: its likeliest few, and all others as one.

    Where topk_ids[..., 0] < 0 it says nothing. `temperature` T divides the logits of teacher and
    student; the loss is (1 - alpha) of the hard one and alpha T^2 of the soft one, so that
    gradients keep their size at every T (Hinton et al. 1503.02531, section 2.1).
    """
    topk_ids: Tensor     # (b, t, k) int32, distinct; < 0 is unused
    topk_probs: Tensor   # (b, t, k), softmax(teacher's logits / T) there
    temperature: float
    alpha: float


def cross_entropy(scores: Tensor, targets: Tensor, inv_count: Tensor,
                  soft: SoftTargets | None = None) -> Tensor:
    """inv_count * sum of -log softmax(scores)[target] where target >= 0; scalar.

    scores (b, t, v), targets (b, t) int32, inv_count (1,).
    """
    bytes_ = Tensor.arange(scores.shape[-1])
    chosen = bytes_ == targets[..., None]                               # (b, t, v); none if < 0
    hard = -(scores.log_softmax(-1) * chosen).sum(-1)                   # (b, t)
    if soft is None:
        return hard.sum() * inv_count.reshape(())
    said = soft.topk_ids[..., :1].squeeze(-1) >= 0                      # (b, t)
    named = bytes_ == soft.topk_ids[..., None]                          # (b, t, k, v)
    probs = (named * soft.topk_probs[..., None]).sum(-2)                # (b, t, v)
    others = (1 - probs.sum(-1)).maximum(0)                             # (b, t)
    log_p = (scores / soft.temperature).log_softmax(-1)
    log_others = (log_p.exp() * named.any(-2).logical_not()).sum(-1).maximum(MIN_NORMAL).log()
    cross = -(probs * log_p).sum(-1) - others * log_others
    mixed = hard * (1 - soft.alpha) + cross * (soft.alpha * soft.temperature ** 2)
    return said.where(mixed, hard).sum() * inv_count.reshape(())


def adamw(p: Tensor, g: Tensor, m: Tensor, v: Tensor, step: int, lr: float, decay: float,
          config: TrainConfig) -> tuple[Tensor, Tensor, Tensor]:
    """p, m and v after one step (Loshchilov & Hutter 1711.05101, algorithm 2), the first being 1.

    lr is of the gradient's part, decay of the weight's: p falls by p * decay * weight_decay.
    """
    m = m * config.beta1 + g * (1 - config.beta1)
    v = v * config.beta2 + g.square() * (1 - config.beta2)
    unbiased = m / (1 - config.beta1 ** step), v / (1 - config.beta2 ** step)
    kept = p * (1 - decay * config.weight_decay)
    return kept - unbiased[0] / (unbiased[1].sqrt() + config.eps) * lr, m, v


def orthogonalize(x: Tensor) -> Tensor:
    """x (r, c) with its singular values drawn towards 1 by Newton-Schulz iterations.

    Coefficients of Jordan et al. 2024 (kellerjordan.github.io/posts/muon).
    """
    if x.shape[0] > x.shape[1]:
        return orthogonalize(x.T).T
    x = x / (x.square().sum().sqrt() + NS_EPS)
    a, b, c = NS_COEFFICIENTS
    for _ in range(NS_STEPS):
        A = x @ x.T                                                     # (r, r)
        x = x * a + (A * b + A @ A * c) @ x
    return x


def muon(p: Tensor, g: Tensor, m: Tensor, lr: float, scale: float,
         config: TrainConfig) -> tuple[Tensor, Tensor]:
    """One matrix p (r, c) and its momentum m after one step, with Nesterov's look ahead.

    `scale` times sqrt of the longer side gives the update the root mean square of `scale` (Liu et
    al. 2502.16982).
    """
    m = m * config.momentum + g
    longer = max(*typing.cast(tuple[int, int], p.shape))
    update = orthogonalize(g + m * config.momentum) * (scale * longer ** 0.5)
    return p * (1 - lr * config.weight_decay) - update * lr, m
