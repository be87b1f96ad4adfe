"""A peer for `bench`: the same architecture in PyTorch, as a PyTorch user would write it fast.

The gated delta rule runs in its chunked WY form (Yang et al. 2412.06464, section 3.3): within a
chunk a triangular solve, between chunks the state. Fresh state, t a multiple of CHUNK.
"""
import math

import torch
import torch.nn.functional as F

from seed.config import L2_EPS, SIGMOID_STRETCH, TURN_SCALE, Profile
from seed.wavecore.layout import state_pairs
from seed.wavecore.model import init_params

CHUNK = 32  # the fastest of 16, 32 and 64 at d_model 128 and t 128 on a CPU


def l2_normalize(x: torch.Tensor) -> torch.Tensor:
    return x * torch.rsqrt((x * x).sum(-1, keepdim=True) + L2_EPS)


def rectified_sigmoid(x: torch.Tensor) -> torch.Tensor:
    """Sigmoid stretched about 1/2 and cut to 0..1, with a gradient straight through the cut."""
    stretched = torch.sigmoid(x) * SIGMOID_STRETCH - (SIGMOID_STRETCH - 1) / 2
    return stretched + (stretched.clamp(0, 1) - stretched).detach()


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary positions of x (..., t, p) by angles (t, p/2)."""
    low, high = x.chunk(2, -1)
    return torch.cat([low * cos - high * sin, high * cos + low * sin], -1)


def phases(r: torch.Tensor, steps: int) -> torch.Tensor:
    """r (b, t, h, n/2) to the angles by which states have turned, in whole parts of a turn."""
    parts = r * (TURN_SCALE * steps)
    phase = (parts + (parts.round() - parts).detach()).cumsum(1)
    return (phase - (phase / steps).floor().detach() * steps) * (2 * math.pi / steps)


def gated_delta(q, k, v, beta, log_decay, delta: bool) -> torch.Tensor:
    """q, k (b, t, h, n), v (b, t, h, p), beta and log_decay (b, t, h) to y (b, t, h, p)."""
    b, t, h, n = q.shape
    p, chunks = v.shape[-1], t // CHUNK

    def chunked(x: torch.Tensor) -> torch.Tensor:
        return x.view(b, chunks, CHUNK, h, -1).permute(0, 3, 1, 2, 4)   # (b, h, chunks, CHUNK, .)
    q, k, v, beta = chunked(q), chunked(k), chunked(v), chunked(beta[..., None])
    g = chunked(log_decay[..., None])[..., 0].cumsum(-1)                # (b, h, chunks, CHUNK)
    lower = torch.ones(CHUNK, CHUNK, dtype=torch.bool).tril()
    decay = (g[..., :, None] - g[..., None, :]).masked_fill(~lower, -math.inf).exp()
    writes, reads = v * beta, k * beta * g.exp()[..., None]
    if delta:
        A = ((k * beta) @ k.transpose(-1, -2) * decay).tril(-1) + torch.eye(CHUNK)
        solved = torch.linalg.solve_triangular(A, torch.cat([writes, reads], -1), upper=False,
                                               unitriangular=True)
        writes, reads = solved.split([p, n], -1)
    scores = q @ k.transpose(-1, -2) * decay
    q_in, k_out = q * g.exp()[..., None], k * (g[..., -1:] - g).exp()[..., None]
    keep = g[..., -1].exp()
    S, ys = torch.zeros(b, h, n, p), []
    for i in range(chunks):
        u = writes[:, :, i] - reads[:, :, i] @ S if delta else writes[:, :, i]
        ys.append(q_in[:, :, i] @ S + scores[:, :, i] @ u)
        S = S * keep[:, :, i, None, None] + k_out[:, :, i].transpose(-1, -2) @ u
    return torch.stack(ys, 2).permute(0, 2, 3, 1, 4).reshape(b, t, h, p)


class Peer:
    """Holds the initial arrays of a profile and computes their loss from a fresh state."""

    def __init__(self, profile: Profile):
        config, t = profile.model, profile.train.seq_len
        self.config, params = config, init_params(config, profile.train.seed)
        self.w = {name: torch.tensor(array).requires_grad_() for name, array in params.items()}
        half = config.head_dim // 2
        angle = torch.arange(t)[:, None] * config.rope_theta ** (-torch.arange(half) / half)
        self.cos, self.sin = angle.cos(), angle.sin()                   # (t, p/2)
        i = torch.arange(t)
        self.window = (i[:, None] >= i) & (i[:, None] - i < config.sliding_window)

    def parameters(self) -> list[torch.Tensor]:
        return list(self.w.values())

    def norm(self, x: torch.Tensor, name: str) -> torch.Tensor:
        return F.rms_norm(x, (x.shape[-1],), self.w[name], self.config.norm_eps
                          if name.endswith("out_norm") else self.config.stream_eps)

    def ssm(self, x: torch.Tensor, at: str) -> torch.Tensor:
        c, w, (b, t, _) = self.config, self.w, x.shape
        h, n, p = c.ssm_heads, c.d_state, c.head_dim
        turns = h * state_pairs(c)
        qkvz, beta, dt, r = F.linear(self.norm(x, f"{at}.norm"), w[f"{at}.in_proj"]).split(
            [h * 2 * (n + p), h, h, turns], -1)
        qkvz = qkvz.view(b, t, h, 2 * (n + p))
        channels = 2 * n + p
        raw = qkvz[..., :channels].reshape(b, t, h * channels).transpose(1, 2)
        kernel = w[f"{at}.conv1d"].reshape(c.d_conv, h * channels).t()[:, None]
        qkv = F.silu(F.conv1d(F.pad(raw, (c.d_conv - 1, 0)), kernel, groups=h * channels))
        q, k, v = qkv.transpose(1, 2).reshape(b, t, h, channels).split([n, n, p], -1)
        log_decay = -F.softplus(dt + w[f"{at}.dt_bias"]) * w[f"{at}.A_log"].exp()
        q, k = l2_normalize(q), l2_normalize(k)
        if turns:
            angle = phases(r.view(b, t, h, -1), c.rotary_steps)
            q, k = (rotate(z, angle.cos(), -angle.sin()) for z in (q, k))
            beta = beta + w[f"{at}.beta_bias"]
        y = gated_delta(q, k, v, c.beta_max * rectified_sigmoid(beta), log_decay,
                        c.transition == "delta")
        out = self.norm(y, f"{at}.out_norm") * F.silu(qkvz[..., channels:])
        return x + F.linear(out.reshape(b, t, h * p), w[f"{at}.out_proj"])

    def attention(self, x: torch.Tensor, at: str) -> torch.Tensor:
        c, (b, t, d) = self.config, x.shape
        qkv = F.linear(self.norm(x, f"{at}.norm"), self.w[f"{at}.qkv_proj"])
        q, k, v = (z.view(b, t, c.attn_heads, c.head_dim).transpose(1, 2)
                   for z in qkv.chunk(3, -1))
        q, k = (rotate(z, self.cos, self.sin) for z in (q, k))
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=self.window)
        return x + F.linear(y.transpose(1, 2).reshape(b, t, d), self.w[f"{at}.out_proj"])

    def mlp(self, x: torch.Tensor, at: str) -> torch.Tensor:
        gate, up = F.linear(self.norm(x, f"{at}.norm"), self.w[f"{at}.in_proj"]).chunk(2, -1)
        return x + F.linear(F.silu(gate) * up, self.w[f"{at}.out_proj"])

    def loss(self, tokens: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy of tokens, targets (b, t)."""
        x = F.embedding(tokens, self.w["embedding"])
        for i, kind in enumerate(self.config.layer_kinds):
            mixer = self.ssm if kind == "S" else self.attention
            x = self.mlp(mixer(x, f"layers.{i}.mixer"), f"layers.{i}.mlp")
        logits = F.linear(self.norm(x, "norm_f"), self.w["embedding"])
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())
