"""One step of a brain in numpy, in float64: what an exported file must compute.

Written from the equations, not from the exported graph or the kernels, so that it checks both.
Dimension letters as in `wavecore/model.py`, for a batch of one.
"""
import numpy as np

from seed.config import L2_EPS, SIGMOID_STRETCH, TURN_SCALE, ModelConfig


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def silu(x: np.ndarray) -> np.ndarray:
    return x * sigmoid(x)


def l2_normalize(x: np.ndarray) -> np.ndarray:
    return x / np.sqrt((x * x).sum(-1, keepdims=True) + L2_EPS)


class Reference:
    """Reads one byte at a time, batch 1. `params` are a checkpoint's named float32 arrays."""

    def __init__(self, config: ModelConfig, params: dict[str, np.ndarray]):
        self.config = config
        self.params = {key: array.astype(np.float64) for key, array in params.items()}
        self.least_margin = np.inf   # of a turn to where it is rounded otherwise, since the reset
        self.reset()

    def reset(self) -> None:
        """Resets the state to that before the first byte."""
        c, self.least_margin = self.config, np.inf
        self.conv = [np.zeros((c.d_conv - 1, c.ssm_heads, 2 * c.d_state + c.head_dim))
                     for _ in range(c.n_layers)]
        self.ssm = [np.zeros((c.ssm_heads, c.head_dim, c.d_state)) for _ in range(c.n_layers)]
        self.keys: list[list[np.ndarray]] = [[] for _ in range(c.n_layers)]
        self.values: list[list[np.ndarray]] = [[] for _ in range(c.n_layers)]

    def step(self, byte: int) -> np.ndarray:
        """Logits (v,) after one byte."""
        x = self.params["embedding"][byte]
        for i, kind in enumerate(self.config.layer_kinds):
            mixer = self._ssm if kind == "S" else self._attention
            x = x + mixer(i, self._norm(x, f"layers.{i}.mixer.norm"))
            x = x + self._mlp(i, self._norm(x, f"layers.{i}.mlp.norm"))
        return self.params["embedding"] @ self._norm(x, "norm_f")

    def _norm(self, x: np.ndarray, gain: str) -> np.ndarray:
        c, mean = self.config, (x * x).mean(-1, keepdims=True)
        eps = c.norm_eps if gain.endswith("out_norm") else c.stream_eps
        return x / np.sqrt(mean + eps) * self.params[gain]

    def _ssm(self, i: int, x: np.ndarray) -> np.ndarray:
        c, w = self.config, lambda name: self.params[f"layers.{i}.mixer.{name}"]
        h, n, p = c.ssm_heads, c.d_state, c.head_dim
        width = 2 * n + 2 * p
        heads, beta, dt, turns = np.split(w("in_proj") @ x, h * width + np.array([0, h, 2 * h]))
        heads = heads.reshape(h, width)
        window = np.concatenate([self.conv[i], heads[None, :, :2 * n + p]])
        self.conv[i] = window[1:]
        mixed = silu((window * w("conv1d")).sum(0))
        q, k, v = l2_normalize(mixed[:, :n]), l2_normalize(mixed[:, n:2 * n]), mixed[:, 2 * n:]
        decay = np.exp(-np.logaddexp(0, dt + w("dt_bias")) * np.exp(w("A_log")))[:, None, None]
        if c.rotary_steps:
            beta = beta + w("beta_bias")
        beta = c.beta_max * np.clip(
            SIGMOID_STRETCH * sigmoid(beta) - (SIGMOID_STRETCH - 1) / 2, 0, 1)
        beta = beta[:, None, None]
        S = self.ssm[i]
        if c.rotary_steps:
            S = self._turn(S, turns.reshape(h, 1, -1))
        if c.transition == "delta":   # S (I - beta k k^T)
            S = S - beta * (S @ k[:, :, None]) * k[:, None, :]
        self.ssm[i] = decay * S + beta * v[:, :, None] * k[:, None, :]
        y = (self.ssm[i] @ q[:, :, None])[..., 0]
        y = self._norm(y, f"layers.{i}.mixer.out_norm") * silu(heads[:, 2 * n + p:])
        return w("out_proj") @ y.reshape(-1)

    def _turn(self, S: np.ndarray, turns: np.ndarray) -> np.ndarray:
        """S (h, p, n) with its pairs turned by (h, 1, n/2), rounded to whole parts of a turn."""
        parts = turns * TURN_SCALE * self.config.rotary_steps
        whole = np.round(parts)
        self.least_margin = min(self.least_margin, 0.5 - np.abs(parts - whole).max())
        angle, (low, high) = 2 * np.pi / self.config.rotary_steps * whole, np.split(S, 2, -1)
        cos, sin = np.cos(angle), np.sin(angle)
        return np.concatenate([cos * low - sin * high, sin * low + cos * high], -1)

    def _attention(self, i: int, x: np.ndarray) -> np.ndarray:
        c, w = self.config, lambda name: self.params[f"layers.{i}.mixer.{name}"]
        h, p = c.attn_heads, c.head_dim
        q, k, v = (w("qkv_proj") @ x).reshape(3, h, p)
        self.keys[i] = [*self.keys[i], k][-c.sliding_window:]
        self.values[i] = [*self.values[i], v][-c.sliding_window:]
        keys, values = np.array(self.keys[i]), np.array(self.values[i])   # (slots, h, p)
        position = np.arange(len(keys))
        scores = (self._rotate(keys, position) * self._rotate(q[None], position[-1:])).sum(-1)
        scores = scores / np.sqrt(p)                                      # (slots, h)
        weight = np.exp(scores - scores.max(0))
        weight /= weight.sum(0)
        return w("out_proj") @ (weight[..., None] * values).sum(0).reshape(-1)

    def _rotate(self, x: np.ndarray, position: np.ndarray) -> np.ndarray:
        half = self.config.head_dim // 2
        angle = position[:, None, None] * self.config.rope_theta ** (-np.arange(half) / half)
        low, high = x[..., :half], x[..., half:]
        return np.concatenate([low * np.cos(angle) - high * np.sin(angle),
                               high * np.cos(angle) + low * np.sin(angle)], -1)

    def _mlp(self, i: int, x: np.ndarray) -> np.ndarray:
        gate, up = np.split(self.params[f"layers.{i}.mlp.in_proj"] @ x, 2)
        return self.params[f"layers.{i}.mlp.out_proj"] @ (silu(gate) * up)
