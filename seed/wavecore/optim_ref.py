"""Reference implementation of the optimizer, in numpy."""
import numpy as np

from seed.config import TrainConfig
from seed.wavecore.fast_optim import (MIN_MOMENTUM, MIN_WEIGHT, NS_COEFFICIENTS, NS_EPS,
                                      NS_STEPS)

Array = np.ndarray


def adamw(p: Array, g: Array, m: Array, v: Array, step: int, lr: float, decay: float,
          config: TrainConfig) -> tuple[Array, Array, Array]:
    """p, m and v after one step (Loshchilov & Hutter 1711.05101, algorithm 2), the first being 1.

    lr is of the gradient's part, decay of the weight's: p falls by p * decay * weight_decay.
    """
    m = m * config.beta1 + g * (1 - config.beta1)
    v = v * config.beta2 + np.square(g) * (1 - config.beta2)
    m_unbiased, v_unbiased = m / (1 - config.beta1 ** step), v / (1 - config.beta2 ** step)
    decayed = p * (1 - decay * config.weight_decay)
    return decayed - m_unbiased / (np.sqrt(v_unbiased) + config.eps) * lr, m, v


def orthogonalize(x: Array) -> Array:
    """x (r, c) with its singular values drawn towards 1 by Newton-Schulz iterations.

    Coefficients of Jordan et al. 2024 (kellerjordan.github.io/posts/muon).
    """
    if x.shape[0] > x.shape[1]:
        return orthogonalize(x.T).T
    x = x / (np.linalg.norm(x) + NS_EPS)
    a, b, c = NS_COEFFICIENTS
    for _ in range(NS_STEPS):
        A = x @ x.T                                                     # (r, r)
        x = x * a + (A * b + A @ A * c) @ x
    return x


def without_tiny(x: Array, least: float) -> Array:
    """x with 0 for what is not larger than `least`, of either sign."""
    return np.where(np.abs(x) <= least, 0.0, x)


def muon(p: Array, g: Array, m: Array, lr: float, scale: float,
         config: TrainConfig) -> tuple[Array, Array]:
    """One matrix p (r, c) and its momentum m after one step, with Nesterov's look ahead.

    `scale` times sqrt of the longer side gives the update the root mean square of `scale` (Liu et
    al. 2502.16982).
    """
    m = without_tiny(m * config.momentum + g, MIN_MOMENTUM)
    update = orthogonalize(g + m * config.momentum) * (scale * max(p.shape) ** 0.5)
    return without_tiny(p * (1 - lr * config.weight_decay) - update * lr, MIN_WEIGHT), m
