"""Where the numbers of a small model lie in a large one: it is a selection of layers, channels of
the residual stream, heads of each mixer, units of each MLP and the first rows of each state (where
states turn, the first pairs of rows)."""
from collections.abc import Collection, Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from seed.config import ModelConfig
from seed.errors import ConfigError
from seed.wavecore import layout

SAME = ("head_dim", "d_conv", "sliding_window", "transition", "beta_max", "rotary_steps")
SMALLER = ("d_model", "n_layers", "d_ff", "d_state")


class Selection(NamedTuple):
    """For each layer, channel, head and unit of the small model, its index in the large one."""
    layers: tuple[int, ...]
    channels: np.ndarray            # (d,)
    heads: tuple[np.ndarray, ...]   # of each layer's mixer
    units: tuple[np.ndarray, ...]   # of each layer's MLP


class IndexMap(NamedTuple):
    """small_array = large_array[at]"""
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


def check_without_bodies(bodies: Collection[str]) -> None:
    """Raises ConfigError for a brain that acts: the curriculum alone tells how well it does in
    another size."""
    if bodies:
        raise ConfigError(f"this brain acts in {', '.join(bodies)}: train --grow and shrink take a "
                          f"brain without a body; seed grow --to a profile takes it")


def first_layers(small: ModelConfig, large: ModelConfig) -> tuple[int, ...] | None:
    """The first layers of the large model that are of the small one's kinds, in their order."""
    candidates = enumerate(large.layer_kinds)
    layers = [next((i for i, candidate in candidates if candidate == kind), -1)
              for kind in small.layer_kinds]
    return None if -1 in layers else tuple(layers)


def layer_choices(small: ModelConfig, large: ModelConfig) -> list[tuple[int, ...]]:
    """All ways to find the small model's kinds of layers, in their order, among the large one's."""
    kinds = large.layer_kinds
    return [layers for layers in combinations(range(large.n_layers), small.n_layers)
            if all(kinds[i] == kind for i, kind in zip(layers, small.layer_kinds))]


def first(small: ModelConfig, large: ModelConfig) -> Selection:
    """The first layers of the right kinds, and the first channels, heads and units."""
    heads = tuple(np.arange(layout.BLOCKS[kind].n_heads_fn(small)) for kind in small.layer_kinds)
    layers = first_layers(small, large)
    assert layers is not None, "check comes first"
    return Selection(layers, np.arange(small.d_model), heads,
                     (np.arange(small.d_ff),) * small.n_layers)


def index_maps(small: ModelConfig, large: ModelConfig, selection: Selection,
               bodies: Sequence[layout.BodyShape] = ()) -> Iterator[IndexMap]:
    """Where every array of the small model lies."""
    channels = selection.channels
    yield IndexMap("embedding", "embedding", np.ix_(np.arange(small.vocab_size), channels))
    yield IndexMap("norm_f", "norm_f", (channels,))
    for table in (block for body in bodies for block in body.blocks(small)):
        (n_rows, _), = (array.shape for array in table.arrays)
        yield IndexMap(table.name, table.name, np.ix_(np.arange(n_rows), channels))
    for new, (old, heads, units) in enumerate(zip(
            selection.layers, selection.heads, selection.units, strict=True)):
        for half, kind in layout.halves(small, new):
            at = kind.head_index_fn(large, heads if half == "mixer" else units, small.d_state)
            arrays = {"norm": (channels,), kind.in_proj: np.ix_(at.in_rows, channels),
                      "out_proj": np.ix_(channels, at.out_columns), **at.others}
            for name, index in arrays.items():
                yield IndexMap(f"layers.{new}.{half}.{name}", f"layers.{old}.{half}.{name}", index)
