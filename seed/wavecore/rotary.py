"""Rotations of pairs of numbers: rotary positions of attention (Su et al. 2104.09864), and turns of
an SSM's state, which depend on the data (Mamba-3, 2603.15569). Equations: model.py."""
import math
import typing

import numpy as np

from seed.config import TURN_SCALE, ModelConfig
from seed.wavecore.tinygrad_seam import Tensor


def rope_table(config: ModelConfig, t: int) -> np.ndarray:
    """(w-1+t, p) float32: cosines, then sines, of slot * theta^(-2i/p)."""
    half = config.head_dim // 2
    frequency = config.rope_theta ** (-np.arange(half) / half)
    angle = np.arange(config.sliding_window - 1 + t)[:, None] * frequency
    return np.concatenate([np.cos(angle), np.sin(angle)], 1).astype(np.float32)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Pairs of x (.., p), of its halves, turned by angles whose cosines and sines are (.., p/2)."""
    half = typing.cast(int, x.shape[-1]) // 2
    low, high = x[..., :half], x[..., half:]
    return (low * cos - high * sin).cat(high * cos + low * sin, dim=-1)


def whole(x: Tensor) -> Tensor:
    """Rounded, with a gradient straight through (Bengio et al. 1308.3432)."""
    return x + (x.round() - x).detach()


def phases(config: ModelConfig, r: Tensor, phase_in: Tensor) -> tuple[Tensor, Tensor]:
    """r (b, t, h, n/2) and phase_in (b, h, n/2) int32 to the phases of all steps, in parts of a
    turn, and the last one as it is carried."""
    parts = whole(r * (TURN_SCALE * config.rotary_steps))
    phase = phase_in.float()[:, None] + parts.cumsum(1)                 # (b, t, h, n/2)
    turns = (phase / config.rotary_steps).floor() * config.rotary_steps
    phase = phase - turns.detach()
    return phase, phase[:, -1].detach().cast("int")


def turn_table(steps: int) -> np.ndarray:
    """(2, steps) float32: cosines, then sines, of each whole number of parts of a turn. Rounded at
    first, so that the last digits of a library's cosine make no difference."""
    angles = [2 * math.pi * part / steps for part in range(steps)]
    return np.array([[round(wave_fn(angle), 12) for angle in angles]
                     for wave_fn in (math.cos, math.sin)], np.float32)
