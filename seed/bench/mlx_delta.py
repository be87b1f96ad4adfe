"""A peer for `bench`: the same architecture in MLX, compiled, as an MLX user would write it.

The gated delta rule runs in chunks as in torch_delta.py. MLX has no gradient of a triangular solve,
so (I + A)^-1 of a chunk is a product: A is strictly lower, so A^CHUNK = 0, and with B = -A
(I - B)^-1 = (I + B)(I + B^2)(I + B^4) ... Fresh state, t a multiple of CHUNK.
"""
import math
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx.optimizers as optimizers
import numpy as np

from seed.config import L2_EPS, SIGMOID_STRETCH, TURN_SCALE, Profile
from seed.wavecore.model import init_params

CHUNK = 32   # a power of two
HIDDEN = -1e30
Weights = dict[str, mx.array]


def l2_normalize(x: mx.array) -> mx.array:
    return x * mx.rsqrt((x * x).sum(-1, keepdims=True) + L2_EPS)


def rectified_sigmoid(x: mx.array) -> mx.array:
    """Sigmoid stretched about 1/2 and cut to 0..1, with a gradient straight through the cut."""
    stretched = mx.sigmoid(x) * SIGMOID_STRETCH - (SIGMOID_STRETCH - 1) / 2
    return stretched + mx.stop_gradient(mx.clip(stretched, 0, 1) - stretched)


def phases(r: mx.array, steps: int) -> mx.array:
    """r (b, t, h, n/2) to the angles by which states have turned, in whole parts of a turn."""
    parts = r * (TURN_SCALE * steps)
    phase = (parts + mx.stop_gradient(mx.round(parts) - parts)).cumsum(1)
    return (phase - mx.stop_gradient(mx.floor(phase / steps)) * steps) * (2 * math.pi / steps)


def turned_back(x: mx.array, angle: mx.array) -> mx.array:
    """Pairs of x (.., n), of its halves, turned back by angles (.., n/2)."""
    (low, high), cos, sin = mx.split(x, 2, -1), mx.cos(angle), mx.sin(angle)
    return mx.concatenate([low * cos + high * sin, high * cos - low * sin], -1)


def inverse(A: mx.array) -> mx.array:
    """(I + A)^-1 for strictly lower A (..., CHUNK, CHUNK)."""
    power, result = -A, mx.eye(CHUNK) - A
    for _ in range(CHUNK.bit_length() - 2):
        power = power @ power
        result = result + result @ power
    return result


def gated_delta(q: mx.array, k: mx.array, v: mx.array, beta: mx.array, log_decay: mx.array,
                delta: bool) -> mx.array:
    """q, k (b, t, h, n), v (b, t, h, p), beta and log_decay (b, t, h) to y (b, t, h, p)."""
    b, t, h, n = q.shape
    p, chunks = v.shape[-1], t // CHUNK

    def chunked(x: mx.array) -> mx.array:
        return x.reshape(b, chunks, CHUNK, h, -1).transpose(0, 3, 1, 2, 4)
    q, k, v, beta = chunked(q), chunked(k), chunked(v), chunked(beta[..., None])
    g = chunked(log_decay[..., None])[..., 0].cumsum(-1)               # (b, h, chunks, CHUNK)
    lower = mx.tril(mx.ones((CHUNK, CHUNK)))
    decay = mx.exp(mx.where(lower > 0, g[..., :, None] - g[..., None, :], HIDDEN))
    writes, reads = v * beta, k * beta * mx.exp(g)[..., None]
    keys = k.swapaxes(-1, -2)
    if delta:
        solve = inverse(mx.tril((k * beta) @ keys * decay, -1))
        writes, reads = solve @ writes, solve @ reads
    scores = q @ keys * decay
    q_in, k_out = q * mx.exp(g)[..., None], k * mx.exp(g[..., -1:] - g)[..., None]
    keep = mx.exp(g[..., -1])
    S, ys = mx.zeros((b, h, n, p)), []
    for i in range(chunks):
        u = writes[:, :, i] - reads[:, :, i] @ S if delta else writes[:, :, i]
        ys.append(q_in[:, :, i] @ S + scores[:, :, i] @ u)
        S = S * keep[:, :, i, None, None] + k_out[:, :, i].swapaxes(-1, -2) @ u
    return mx.stack(ys, 2).transpose(0, 2, 3, 1, 4).reshape(b, t, h, p)


class Peer:
    """Computes the loss of a profile's initial arrays from a fresh state."""

    def __init__(self, profile: Profile):
        self.config, t = profile.model, profile.train.seq_len
        self.params = {name: mx.array(array)
                       for name, array in init_params(self.config, profile.train.seed).items()}
        i = np.arange(t)
        seen = (i[:, None] >= i) & (i[:, None] - i < self.config.sliding_window)
        self.mask = mx.array(np.where(seen, 0.0, HIDDEN).astype(np.float32))

    def norm(self, x: mx.array, w: Weights, name: str) -> mx.array:
        return mx.fast.rms_norm(x, w[name], self.config.norm_eps if name.endswith("out_norm")
                                else self.config.stream_eps)

    def ssm(self, x: mx.array, w: Weights, at: str) -> mx.array:
        c, (b, t, _) = self.config, x.shape
        h, n, p = c.ssm_heads, c.d_state, c.head_dim
        width, channels = h * 2 * (n + p), 2 * n + p
        proj = self.norm(x, w, f"{at}.norm") @ w[f"{at}.in_proj"].T
        qkvz = proj[..., :width].reshape(b, t, h, 2 * (n + p))
        beta, dt = proj[..., width:width + h], proj[..., width + h:width + 2 * h]
        raw = mx.pad(qkvz[..., :channels].reshape(b, t, h * channels),
                     [(0, 0), (c.d_conv - 1, 0), (0, 0)])
        kernel = w[f"{at}.conv1d"].reshape(c.d_conv, h * channels).T[..., None]
        qkv = nn.silu(mx.conv1d(raw, kernel, groups=h * channels)).reshape(b, t, h, channels)
        log_decay = -nn.softplus(dt + w[f"{at}.dt_bias"]) * mx.exp(w[f"{at}.A_log"])
        q, k = l2_normalize(qkv[..., :n]), l2_normalize(qkv[..., n:2 * n])
        if c.rotary_steps:
            angle = phases(proj[..., width + 2 * h:].reshape(b, t, h, -1), c.rotary_steps)
            q, k = turned_back(q, angle), turned_back(k, angle)
            beta = beta + w[f"{at}.beta_bias"]
        y = gated_delta(q, k, qkv[..., 2 * n:], c.beta_max * rectified_sigmoid(beta), log_decay,
                        c.transition == "delta")
        out = self.norm(y, w, f"{at}.out_norm") * nn.silu(qkvz[..., channels:])
        return x + out.reshape(b, t, h * p) @ w[f"{at}.out_proj"].T

    def attention(self, x: mx.array, w: Weights, at: str) -> mx.array:
        c, (b, t, d) = self.config, x.shape
        qkv = (self.norm(x, w, f"{at}.norm") @ w[f"{at}.qkv_proj"].T).reshape(
            b, t, 3, c.attn_heads, c.head_dim).transpose(2, 0, 3, 1, 4)
        q, k = (mx.fast.rope(z, c.head_dim, traditional=False, base=c.rope_theta, scale=1.0,
                             offset=0) for z in (qkv[0], qkv[1]))
        y = mx.fast.scaled_dot_product_attention(q, k, qkv[2], scale=c.head_dim ** -0.5,
                                                 mask=self.mask)
        return x + y.transpose(0, 2, 1, 3).reshape(b, t, d) @ w[f"{at}.out_proj"].T

    def mlp(self, x: mx.array, w: Weights, at: str) -> mx.array:
        hidden = self.norm(x, w, f"{at}.norm") @ w[f"{at}.in_proj"].T
        gate, up = mx.split(hidden, 2, -1)
        return x + (nn.silu(gate) * up) @ w[f"{at}.out_proj"].T

    def loss(self, w: Weights, tokens: mx.array, targets: mx.array) -> mx.array:
        """Mean cross-entropy of tokens, targets (b, t)."""
        x = w["embedding"][tokens]
        for i, kind in enumerate(self.config.layer_kinds):
            mixer = self.ssm if kind == "S" else self.attention
            x = self.mlp(mixer(x, w, f"layers.{i}.mixer"), w, f"layers.{i}.mlp")
        logits = self.norm(x, w, "norm_f") @ w["embedding"].T
        return nn.losses.cross_entropy(logits, targets, reduction="mean")


def step_fn(profile: Profile, tokens: np.ndarray, targets: np.ndarray,
            lr: float) -> Callable[[], float]:
    """A training step with AdamW, and its loss."""
    peer, config = Peer(profile), profile.train
    optimizer = optimizers.AdamW(lr, [config.beta1, config.beta2], config.eps,
                                 config.weight_decay, bias_correction=True)
    optimizer.init(peer.params)
    state: dict[str, Any] = {"w": peer.params, "optimizer": optimizer.state}
    inputs = mx.array(tokens), mx.array(targets)

    def step(state: dict[str, Any], tokens: mx.array, targets: mx.array) -> Any:
        loss, grads = mx.value_and_grad(peer.loss)(state["w"], tokens, targets)
        grads, _ = optimizers.clip_grad_norm(grads, config.grad_clip)
        optimizer.state = state["optimizer"]
        w = optimizer.apply_gradients(grads, state["w"])
        return loss, {"w": w, "optimizer": optimizer.state}
    compiled = mx.compile(step)

    def run() -> float:
        loss, after = compiled(state, *inputs)
        state.update(after)
        mx.eval(loss, state)
        return loss.item()
    return run
