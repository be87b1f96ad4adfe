"""The optimizer in plain operations: slow, and what its kernels are tested against."""
import typing

from tinygrad import Tensor

from seed.config import TrainConfig
from seed.wavecore.fast_optim import NS_COEFFICIENTS, NS_EPS, NS_STEPS


def adamw(p: Tensor, g: Tensor, m: Tensor, v: Tensor, step: int, lr: float, decay: float,
          config: TrainConfig) -> tuple[Tensor, Tensor, Tensor]:
    """p, m and v after one step (Loshchilov & Hutter 1711.05101, algorithm 2), the first being 1.

    lr is of the gradient's part, decay of the weight's: p falls by p * decay * weight_decay.
    """
    m = m * config.beta1 + g * (1 - config.beta1)
    v = v * config.beta2 + g.square() * (1 - config.beta2)
    m_unbiased, v_unbiased = m / (1 - config.beta1 ** step), v / (1 - config.beta2 ** step)
    decayed = p * (1 - decay * config.weight_decay)
    return decayed - m_unbiased / (v_unbiased.sqrt() + config.eps) * lr, m, v


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
