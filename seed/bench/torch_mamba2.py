"""A peer for `bench`: a Mamba-2 style hybrid of the same width and depth, cheaper than ours.

What a PyTorch user would pick instead: the chunked SSD form (Dao & Gu 2405.21060, section 6), B and
C shared by the heads, causal attention without a window, tied head. t a multiple of CHUNK.
"""
import math

import torch
import torch.nn.functional as F
from torch import nn

from seed.config import ModelConfig, Profile

CHUNK, EPS = 32, 1e-5


def ssd(x, log_decay, B, C) -> torch.Tensor:
    """x (b, t, h, p), log_decay (b, t, h), B and C (b, t, n) to y (b, t, h, p)."""
    b, t, h, p = x.shape
    n, chunks = B.shape[-1], t // CHUNK
    x, B, C = (z.view(b, chunks, CHUNK, *z.shape[2:]) for z in (x, B, C))
    g = log_decay.view(b, chunks, CHUNK, h).permute(0, 3, 1, 2).cumsum(-1)  # (b, h, chunks, CHUNK)
    lower = torch.ones(CHUNK, CHUNK, dtype=torch.bool).tril()
    L = (g[..., :, None] - g[..., None, :]).masked_fill(~lower, -math.inf).exp()
    y = torch.einsum("bcls,bhcls,bcshp->bclhp", torch.einsum("bcln,bcsn->bcls", C, B), L, x)
    update = torch.einsum("bcln,bhcl,bclhp->bchpn", B, (g[..., -1:] - g).exp(), x)
    S, before, keep = torch.zeros(b, h, p, n), [], g[..., -1].exp()
    for i in range(chunks):
        before.append(S)
        S = S * keep[:, :, i, None, None] + update[:, i]
    return (y + torch.einsum("bcln,bchpn,bhcl->bclhp", C, torch.stack(before, 1), g.exp())
            ).reshape(b, t, h, p)


class Mamba2(nn.Module):
    def __init__(self, c: ModelConfig):
        super().__init__()
        self.e, self.n, self.h, self.k = c.d_inner, c.d_state, c.ssm_heads, c.d_conv
        channels = self.e + 2 * self.n
        self.norm, self.out_norm = nn.RMSNorm(c.d_model, EPS), nn.RMSNorm(self.e, EPS)
        self.in_proj = nn.Linear(c.d_model, self.e + channels + self.h, bias=False)
        self.conv1d = nn.Conv1d(channels, channels, self.k, groups=channels, padding=self.k - 1)
        self.dt_bias, self.D = nn.Parameter(torch.rand(self.h)), nn.Parameter(torch.ones(self.h))
        self.A_log = nn.Parameter(torch.log(torch.arange(1.0, self.h + 1)))
        self.out_proj = nn.Linear(self.e, c.d_model, bias=False)

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        b, t, _ = u.shape
        z, xBC, dt = self.in_proj(self.norm(u)).split([self.e, self.e + 2 * self.n, self.h], -1)
        xBC = F.silu(self.conv1d(xBC.transpose(1, 2))[..., :t].transpose(1, 2))
        x, B, C = xBC.split([self.e, self.n, self.n], -1)
        dt, x = F.softplus(dt + self.dt_bias), x.reshape(b, t, self.h, -1)
        y = ssd(x * dt[..., None], -dt * self.A_log.exp(), B, C) + x * self.D[:, None]
        return u + self.out_proj(self.out_norm(y.reshape(b, t, self.e) * F.silu(z)))


class Attention(nn.Module):
    def __init__(self, c: ModelConfig):
        super().__init__()
        self.heads, self.norm = c.attn_heads, nn.RMSNorm(c.d_model, EPS)
        self.qkv_proj = nn.Linear(c.d_model, 3 * c.d_model, bias=False)
        self.out_proj = nn.Linear(c.d_model, c.d_model, bias=False)

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        b, t, d = u.shape
        q, k, v = self.qkv_proj(self.norm(u)).view(b, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return u + self.out_proj(y.transpose(1, 2).reshape(b, t, d))


class Mlp(nn.Module):
    def __init__(self, c: ModelConfig):
        super().__init__()
        self.norm = nn.RMSNorm(c.d_model, EPS)
        self.in_proj = nn.Linear(c.d_model, 2 * c.d_ff, bias=False)
        self.out_proj = nn.Linear(c.d_ff, c.d_model, bias=False)

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        gate, up = self.in_proj(self.norm(u)).chunk(2, -1)
        return u + self.out_proj(F.silu(gate) * up)


class Peer(nn.Module):
    def __init__(self, profile: Profile):
        super().__init__()
        config = profile.model
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        layers = [(Mamba2 if kind == "S" else Attention, Mlp) for kind in config.layer_kinds]
        self.layers = nn.Sequential(*(make(config) for pair in layers for make in pair))
        self.norm_f = nn.RMSNorm(config.d_model, EPS)

    def loss(self, tokens: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy of tokens, targets (b, t)."""
        x = self.norm_f(self.layers(self.embedding(tokens)))
        logits = F.linear(x, self.embedding.weight)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())
