"""The blocks in plain tinygrad operations: the specification that the kernels are tested against.

Dimension letters as in `model.py`. Every function takes the block's named arrays (`layout.py`) and
runs on any tinygrad device. The recurrence is a Python loop over time: slow, and readable.
"""
from tinygrad import Tensor

from seed.config import ModelConfig

UNIT_EPS = 1e-6


def rms_norm(x: Tensor, gain: Tensor, eps: float) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * gain over the last axis (Zhang & Sennrich 2019)."""
    return x * (x.square().mean(-1, keepdim=True) + eps).rsqrt() * gain


def silu(x: Tensor) -> Tensor:
    return x * x.sigmoid()


def softplus(x: Tensor) -> Tensor:
    return x.maximum(0) + ((-x.abs()).exp() + 1).log()


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
    proj = rms_norm(x, w["norm"], config.norm_eps) @ w["in_proj"].T     # (b, t, h*(2n+2p) + 2h)
    split = h * (2 * n + 2 * p)
    qkvz = proj[..., :split].reshape(b, t, h, 2 * n + 2 * p)
    beta = proj[..., split:split + h].sigmoid() * config.beta_max       # (b, t, h)
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


def mlp(config: ModelConfig, x: Tensor, w: dict[str, Tensor]) -> Tensor:
    """SwiGLU MLP with residual (Shazeer 2002.05202): x (b, t, d) to (b, t, d)."""
    hidden = rms_norm(x, w["norm"], config.norm_eps) @ w["in_proj"].T   # (b, t, 2f)
    gate, up = hidden[..., :config.d_ff], hidden[..., config.d_ff:]
    return x + (silu(gate) * up) @ w["out_proj"].T
