"""Where the numbers of a small model lie in a large one: for cutting one out, and for growing.

A part is a channel of the residual stream, a head of a mixer, a unit of an MLP, a row of a head's
state or a whole layer. Both models are told apart by their configs alone.
"""
from collections.abc import Iterator
from itertools import combinations
from typing import NamedTuple

import numpy as np

from seed.config import ModelConfig
from seed.errors import ConfigError

SAME = ("head_dim", "d_conv", "sliding_window", "transition", "beta_max")
SMALLER = ("d_model", "n_layers", "d_ff", "d_state")


class Parts(NamedTuple):
    """For each part of the small model, which one of the large it is."""
    layers: tuple[int, ...]
    channels: np.ndarray            # (d,)
    heads: tuple[np.ndarray, ...]   # of each layer's mixer
    units: tuple[np.ndarray, ...]   # of each layer's MLP


class Place(NamedTuple):
    small: str                      # key of an array
    large: str
    at: tuple[np.ndarray, ...]      # into the large array, of the small one's shape


def check(small: ModelConfig, large: ModelConfig) -> None:
    """Raises ConfigError unless the small model fits into the large one."""
    for key in SAME:
        if getattr(small, key) != getattr(large, key):
            raise ConfigError(f"model.{key} is {getattr(small, key)!r} in the smaller and "
                              f"{getattr(large, key)!r} in the larger brain: use the same")
    for key in SMALLER:
        if getattr(small, key) > getattr(large, key):
            raise ConfigError(f"model.{key} is {getattr(small, key)} in the smaller and "
                              f"{getattr(large, key)} in the larger brain: use no more there")
    if first_layers(small, large) is None:
        raise ConfigError(f"model.pattern gives {small.layer_kinds}, which is not within "
                          f"{large.layer_kinds}: leave layers out of that")


def first_layers(small: ModelConfig, large: ModelConfig) -> tuple[int, ...] | None:
    """The first layers of the large model that are of the small one's kinds, in their order."""
    found, left = [], iter(enumerate(large.layer_kinds))
    for kind in small.layer_kinds:
        at = next((i for i, other in left if other == kind), None)
        if at is None:
            return None
        found.append(at)
    return tuple(found)


def choices(small: ModelConfig, large: ModelConfig) -> list[tuple[int, ...]]:
    """All ways to find the small model's kinds of layers, in their order, among the large one's."""
    kinds = large.layer_kinds
    return [chosen for chosen in combinations(range(large.n_layers), small.n_layers)
            if all(kinds[i] == kind for i, kind in zip(chosen, small.layer_kinds))]


def first(small: ModelConfig, large: ModelConfig) -> Parts:
    """The first parts of each kind, and the first layers that will do."""
    kinds = small.layer_kinds
    heads = tuple(np.arange(small.ssm_heads if kind == "S" else small.attn_heads) for kind in kinds)
    layers = first_layers(small, large)
    assert layers is not None, "check comes first"
    return Parts(layers, np.arange(small.d_model), heads,
                 (np.arange(small.d_ff),) * small.n_layers)


def places(small: ModelConfig, large: ModelConfig, parts: Parts) -> Iterator[Place]:
    """Where every array of the small model lies."""
    channels = parts.channels
    yield Place("embedding", "embedding", np.ix_(np.arange(small.vocab_size), channels))
    yield Place("norm_f", "norm_f", (channels,))
    for new, old in enumerate(parts.layers):
        for part in ("mixer", "mlp"):
            rows, columns, rest = (_mlp(large, parts.units[new]) if part == "mlp" else
                                   _ssm(small, large, parts.heads[new])
                                   if small.layer_kinds[new] == "S" else
                                   _attention(large, parts.heads[new]))
            name = "qkv_proj" if part == "mixer" and small.layer_kinds[new] == "A" else "in_proj"
            found = {"norm": (channels,), name: np.ix_(rows, channels),
                     "out_proj": np.ix_(channels, columns), **rest}
            for array, index in found.items():
                yield Place(f"layers.{new}.{part}.{array}", f"layers.{old}.{part}.{array}", index)


Found = tuple[np.ndarray, np.ndarray, dict[str, tuple[np.ndarray, ...]]]  # rows in, columns out


def _spread(heads: np.ndarray, size: int, own: np.ndarray) -> np.ndarray:
    """Some places (own) of some heads, each of which has `size`."""
    return (heads[:, None] * size + own).reshape(-1)


def _ssm(small: ModelConfig, large: ModelConfig, heads: np.ndarray) -> Found:
    n, p, state = large.d_state, large.head_dim, np.arange(small.d_state)
    conv = np.concatenate([state, n + state, 2 * n + np.arange(p)])       # q, k, v
    own = np.concatenate([conv, 2 * n + p + np.arange(p)])                # and z
    gates = large.ssm_heads * 2 * (n + p)
    rows = np.concatenate([_spread(heads, 2 * (n + p), own), gates + heads,
                           gates + large.ssm_heads + heads])
    return rows, _spread(heads, p, np.arange(p)), {
        "conv1d": np.ix_(np.arange(large.d_conv), heads, conv), "A_log": (heads,),
        "dt_bias": (heads,), "out_norm": (np.arange(p),)}


def _attention(large: ModelConfig, heads: np.ndarray) -> Found:
    own = _spread(heads, large.head_dim, np.arange(large.head_dim))
    return np.concatenate([own + part * large.d_model for part in range(3)]), own, {}


def _mlp(large: ModelConfig, units: np.ndarray) -> Found:
    return np.concatenate([units, units + large.d_ff]), units, {}
